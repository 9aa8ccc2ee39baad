//! Why a volume could not be had.

use std::io;

use crate::objects::ObjectError;

/// Why a volume, or a container's mount of it, could not be made or taken down.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The object that it shows is not to be had.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Object {
        volume: String,
        #[source]
        source: ObjectError,
    },
    /// The pod asks for what can't be.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {message}")]
    Invalid { volume: String, message: String },
    /// A kind of volume that this kubelet does not offer.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {kind} volumes are not supported by this kubelet")]
    Unsupported { volume: String, kind: &'static str },
    /// The file system refused.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {action}: {source}")]
    Io {
        volume: String,
        action: String,
        #[source]
        source: io::Error,
    },
    /// The container's `subPath` could not be prepared.
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\": {message}")]
    SubPath { volume: String, container: String, message: String },
    /// A container mounts a volume that the pod does not have.
    #[error("volume \"{volume}\" of container \"{container}\" is not mounted")]
    NotMounted { volume: String, container: String },
    /// What was left could not be taken down.
    #[error("{action}: {source}")]
    Teardown {
        action: String,
        #[source]
        source: io::Error,
    },
    /// The pod's directory could not be made.
    #[error("cannot make the pod's directory {path}: {source}")]
    PodDir {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    /// The pod's UID is no file name.
    #[error("pod UID {0:?} is not a file name")]
    Uid(String),
}

impl VolumeError {
    pub(super) fn invalid(volume: &str, message: impl Into<String>) -> Self {
        Self::Invalid { volume: volume.to_owned(), message: message.into() }
    }

    pub(super) fn io(volume: &str, action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let (volume, action) = (volume.to_owned(), action.into());
        move |source| Self::Io { volume, action, source }
    }

    pub(super) fn object(volume: &str) -> impl FnOnce(ObjectError) -> Self {
        let volume = volume.to_owned();
        move |source| Self::Object { volume, source }
    }
}
