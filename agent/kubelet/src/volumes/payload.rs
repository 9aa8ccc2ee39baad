//! What configMap, secret, downwardAPI and projected volumes hold, as files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret, Volume, VolumeProjection,
};

use super::atomic_writer::{FileProjection, Payload, is_valid_path};
use super::downward::{NodeAllocatable, field_value, resource_value};
use super::error::VolumeError;
use crate::objects::{ObjectError, ObjectManager, TokenSpec};

/// `defaultMode` where the manifest has none.
const DEFAULT_MODE: i32 = 0o644;
/// `expirationSeconds` where the manifest has none.
const DEFAULT_TOKEN_LIFE_S: i64 = 3600;

/// Everything that a payload is made from.
pub(super) struct Sources<'a> {
    pub(super) objects: &'a ObjectManager,
    pub(super) pod: &'a Pod,
    pub(super) node: NodeAllocatable,
}

/// The files of a volume; none if the volume is not made of files.
pub(super) async fn of_volume(sources: &Sources<'_>, volume: &Volume) -> Result<Option<Payload>, VolumeError> {
    let builder = Builder { sources, volume: &volume.name };
    if let Some(source) = &volume.config_map {
        let optional = source.optional.unwrap_or(false);
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return builder.config_map(&source.name, source.items.as_deref(), optional, mode).await.map(Some);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let optional = source.optional.unwrap_or(false);
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return builder.secret(name, source.items.as_deref(), optional, mode).await.map(Some);
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return builder.downward(source.items.as_deref().unwrap_or_default(), mode).map(Some);
    }
    if let Some(source) = &volume.projected {
        return builder.projected(source).await.map(Some);
    }
    Ok(None)
}

struct Builder<'a> {
    sources: &'a Sources<'a>,
    volume: &'a str,
}

impl Builder<'_> {
    fn namespace(&self) -> &str {
        self.sources.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn invalid(&self, message: impl Into<String>) -> VolumeError {
        VolumeError::invalid(self.volume, message)
    }

    async fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: i32,
    ) -> Result<Payload, VolumeError> {
        let found = self.sources.objects.get_config_map(self.namespace(), name).await;
        match self.absent_if_optional(found, optional)? {
            Some(object) => self.select(&config_map_data(&object), items, optional, mode, "configmap", name),
            None => Ok(Payload::new()),
        }
    }

    async fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: i32,
    ) -> Result<Payload, VolumeError> {
        let found = self.sources.objects.get_secret(self.namespace(), name).await;
        match self.absent_if_optional(found, optional)? {
            Some(object) => self.select(&secret_data(&object), items, optional, mode, "secret", name),
            None => Ok(Payload::new()),
        }
    }

    fn absent_if_optional<T>(&self, found: Result<T, ObjectError>, optional: bool) -> Result<Option<T>, VolumeError> {
        match found {
            Ok(object) => Ok(Some(object)),
            Err(error) if optional && error.is_not_found() => Ok(None),
            Err(source) => Err(VolumeError::Object { volume: self.volume.to_owned(), source }),
        }
    }

    /// All keys, or the ones that `items` names under the paths that it gives them.
    fn select(
        &self,
        data: &BTreeMap<&str, &[u8]>,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: i32,
        kind: &str,
        name: &str,
    ) -> Result<Payload, VolumeError> {
        let file = |data: &[u8], mode: i32| FileProjection { data: data.to_vec(), mode: file_mode(mode), uid: None };
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return Ok(data.iter().map(|(key, data)| ((*key).to_owned(), file(data, mode))).collect());
        };
        let mut payload = Payload::new();
        for item in items {
            match data.get(item.key.as_str()) {
                Some(data) => {
                    self.put(&mut payload, &item.path, file(data, item.mode.unwrap_or(mode)))?;
                }
                None if optional => {}
                None => {
                    let reference = format!("{}/{name}", self.namespace());
                    return Err(self.invalid(format!("references non-existent {kind} key: {}: {reference}", item.key)));
                }
            }
        }
        Ok(payload)
    }

    fn put(&self, payload: &mut Payload, path: &str, file: FileProjection) -> Result<(), VolumeError> {
        if !is_valid_path(path) {
            return Err(self.invalid(format!("invalid path {path:?}: must be relative, without \"..\"")));
        }
        payload.insert(path.to_owned(), file);
        Ok(())
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<Payload, VolumeError> {
        let mut payload = Payload::new();
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => field_value(self.sources.pod, &field.field_path),
                (None, Some(selector)) => resource_value(self.sources.pod, None, selector, self.sources.node),
                (None, None) => Err("neither fieldRef nor resourceFieldRef is set".to_owned()),
            };
            let text = text.map_err(|message| self.invalid(message))?;
            let mode = file_mode(item.mode.unwrap_or(mode));
            self.put(&mut payload, &item.path, FileProjection { data: text.into_bytes(), mode, uid: None })?;
        }
        Ok(payload)
    }

    async fn projected(&self, source: &ProjectedVolumeSource) -> Result<Payload, VolumeError> {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let mut payload = Payload::new();
        for projection in source.sources.iter().flatten() {
            payload.extend(self.projection(projection, mode).await?);
        }
        Ok(payload)
    }

    async fn projection(&self, projection: &VolumeProjection, mode: i32) -> Result<Payload, VolumeError> {
        let unsupported = |kind| Err(VolumeError::Unsupported { volume: self.volume.to_owned(), kind });
        if let Some(source) = &projection.config_map {
            let optional = source.optional.unwrap_or(false);
            return self.config_map(&source.name, source.items.as_deref(), optional, mode).await;
        }
        if let Some(source) = &projection.secret {
            let optional = source.optional.unwrap_or(false);
            return self.secret(&source.name, source.items.as_deref(), optional, mode).await;
        }
        if let Some(source) = &projection.downward_api {
            return self.downward(source.items.as_deref().unwrap_or_default(), mode);
        }
        if let Some(source) = &projection.service_account_token {
            let spec = TokenSpec {
                audience: source.audience.clone().unwrap_or_default(),
                expiration_s: source.expiration_seconds.unwrap_or(DEFAULT_TOKEN_LIFE_S),
            };
            let token = self.sources.objects.service_account_token(self.sources.pod, &spec).await;
            let token = token.map_err(VolumeError::object(self.volume))?;
            let owner = common_user(self.sources.pod);
            let fs_group = fs_group(self.sources.pod);
            // A token that has an owner of its own is nobody else's to read (KEP-2451).
            let mode = if owner.is_some() || fs_group.is_some() { 0o600 } else { file_mode(mode) };
            let mut payload = Payload::new();
            self.put(&mut payload, &source.path, FileProjection { data: token.into_bytes(), mode, uid: owner })?;
            return Ok(payload);
        }
        if projection.cluster_trust_bundle.is_some() {
            return unsupported("projected clusterTrustBundle");
        }
        if projection.pod_certificate.is_some() {
            return unsupported("projected podCertificate");
        }
        Err(self.invalid("a projection without a source"))
    }
}

fn config_map_data(object: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let text = object.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    let binary = object.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()));
    text.chain(binary).collect()
}

fn secret_data(object: &Secret) -> BTreeMap<&str, &[u8]> {
    object.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())).collect()
}

fn file_mode(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0) & 0o777
}

/// `securityContext.fsGroup`.
pub(super) fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// The user that every container of the pod runs as, if it is the same one.
fn common_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let pod_user = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut users = containers.map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod_user));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}
