//! `ImageService`: list, inspect, pull, remove, and the file systems that images live on.

use k8s_cri::v1 as cri;

use crate::client::{ImagePull, RuntimeClient};
use crate::error::RuntimeError;

impl RuntimeClient {
    /// All images.
    pub async fn list_images(&self) -> Result<Vec<cri::Image>, RuntimeError> {
        let request = cri::ListImagesRequest { filter: None };
        Ok(self
            .bounded("ListImages", self.options.request_timeout, self.images.clone().list_images(request))
            .await?
            .images)
    }

    /// One image by reference or id; `None` where the runtime does not have it.
    pub async fn image_status(&self, image: &str) -> Result<Option<cri::Image>, RuntimeError> {
        let request = cri::ImageStatusRequest { image: Some(spec(image)), verbose: false };
        match self.bounded("ImageStatus", self.options.request_timeout, self.images.clone().image_status(request)).await
        {
            Ok(answer) => Ok(answer.image),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls an image; returns the reference by which the runtime knows it.
    pub async fn pull_image(&self, pull: ImagePull) -> Result<String, RuntimeError> {
        let request =
            cri::PullImageRequest { image: Some(spec(&pull.image)), auth: pull.auth, sandbox_config: pull.sandbox };
        let answer =
            self.bounded("PullImage", self.options.pull_timeout, self.images.clone().pull_image(request)).await?;
        if answer.image_ref.is_empty() {
            return Err(RuntimeError::Incomplete { call: "PullImage", missing: "image_ref" });
        }
        Ok(answer.image_ref)
    }

    /// Removes an image.
    pub async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        let request = cri::RemoveImageRequest { image: Some(spec(image)) };
        self.bounded("RemoveImage", self.options.request_timeout, self.images.clone().remove_image(request)).await?;
        Ok(())
    }

    /// Usage of the file systems that hold images and writable layers.
    pub async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse, RuntimeError> {
        self.bounded(
            "ImageFsInfo",
            self.options.request_timeout,
            self.images.clone().image_fs_info(cri::ImageFsInfoRequest {}),
        )
        .await
    }
}

fn spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() }
}
