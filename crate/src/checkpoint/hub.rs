//! Models of the Hugging Face hub, in the cache that all its programs share.
//!
//! The cache has a folder `models--OWNER--NAME` for each model: `refs/REVISION` holds the name of a commit,
//! `snapshots/COMMIT` its files. As everywhere, HF_HOME or HF_HUB_CACHE chooses its place, HF_HUB_OFFLINE=1 forbids
//! downloads, HF_TOKEN opens private models, and HF_ENDPOINT names a mirror.

use std::env;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::location::choose;
use super::{printable, shards};
use crate::{Error, Result};

const DESCRIPTIONS: [&str; 2] = ["config.json", "preprocessor_config.json"];

/// Whether the text can be OWNER/NAME of a model rather than the path of a file.
pub(super) fn is_name(text: &str) -> bool {
    let is_file = Path::new(text).extension().is_some_and(|extension| extension.len() <= 5);
    !is_file && text.split('/').count() == 2 && text.split('/').all(is_part)
}

fn is_part(part: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !part.is_empty() && !part.starts_with('.') && part.chars().all(valid)
}

/// The file with the weights of `hf://OWNER/NAME[@REVISION]`, from the cache or downloaded into it. Other files of the
/// model that [`super::Checkpoint`] reads are beside it.
pub(super) fn weights(location: &str) -> Result<PathBuf> {
    let model = Model::parse(location)?;
    let cached = model.cached();
    let described = cached.as_ref().is_ok_and(|file| file.with_file_name(DESCRIPTIONS[0]).exists());
    if described || is_offline() {
        return cached.map_err(|problem| {
            let place = model.folder();
            let problem = format!("{problem} in the cache {}, and HF_HUB_OFFLINE forbids downloads", place.display());
            Error::argument(format!("{location}: {problem}; unset it, or set HF_HUB_CACHE to the cache that has it"))
        });
    }
    match (model.download(), cached) {
        (Ok(file), _) => Ok(file),
        (Err(_), Ok(file)) => Ok(file),
        (Err(problem), Err(_)) => Err(Error::argument(format!("{location}: {problem}"))),
    }
}

struct Model {
    cache: Cache,
    /// OWNER/NAME.
    name: String,
    revision: String,
}

impl Model {
    fn parse(location: &str) -> Result<Self> {
        let (name, revision) = match location.strip_prefix("hf://").unwrap_or("").split_once('@') {
            Some((name, revision)) => (name, revision),
            None => (location.strip_prefix("hf://").unwrap_or(""), "main"),
        };
        let valid = name.split('/').count() == 2 && name.split('/').all(is_part) && revision.split('/').all(is_part);
        if !valid {
            let form = "write hf://OWNER/NAME or hf://OWNER/NAME@REVISION, as in hf://google/vit-base-patch16-224";
            return Err(Error::argument(format!("{}: isn't a model of the hub; {form}", printable(location))));
        }
        let cache = Cache::new(cache_folder()?);
        Ok(Model { cache, name: name.to_string(), revision: revision.to_string() })
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, revision.to_string())
    }

    /// The model's folder in the cache.
    fn folder(&self) -> PathBuf {
        self.cache.path().join(self.repo(&self.revision).folder_name())
    }

    /// The weights in the cache, with all shards. The error is a phrase that goes before "in the cache".
    fn cached(&self) -> Result<PathBuf, String> {
        let reference = std::fs::read_to_string(self.folder().join("refs").join(&self.revision)).ok();
        let commit = reference.map(|text| text.trim().to_string()).filter(|commit| is_part(commit));
        // A revision can be a commit itself.
        let snapshot = self.folder().join("snapshots").join(commit.as_ref().unwrap_or(&self.revision));
        let files = std::fs::read_dir(&snapshot).map_err(|_| "isn't".to_string())?;
        let files = files.flatten().filter(|file| file.path().exists());
        let names = files.filter_map(|file| file.file_name().into_string().ok()).collect();
        let file = snapshot.join(choose(names).map_err(|_| "has no single checkpoint".to_string())?);
        if is_index(&file) {
            let shards = shards::files(&file).map_err(|error| format!("has a damaged index ({error})"))?;
            if let Some(missing) = shards.iter().find(|shard| !snapshot.join(shard).exists()) {
                return Err(format!("lacks {missing}"));
            }
        }
        Ok(file)
    }

    /// Downloads the weights and the descriptions. The error is a phrase about the model.
    fn download(&self) -> Result<PathBuf, String> {
        let problem = |error: ApiError| self.problem(&error);
        let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_string());
        let builder = ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(endpoint.trim_end_matches('/').to_string())
            .with_token(token())
            .with_retries(2);
        let api = builder.build().map_err(problem)?;
        let info = api.repo(self.repo(&self.revision)).info().map_err(problem)?;
        if !is_part(&info.sha) {
            return Err("can't be downloaded: the server names no commit".to_string());
        }
        // All files come from one commit, even if the branch moves on in between.
        let repo = api.repo(self.repo(&info.sha));
        let names: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let top = |name: &&String| !name.contains(['/', '\\']);
        let weights = choose(names.iter().filter(top).cloned().collect()).map_err(|error| error.to_string())?;
        for name in DESCRIPTIONS.iter().filter(|name| names.iter().any(|other| other == *name)) {
            self.get(&repo, &info.sha, name).map_err(problem)?;
        }
        let file = self.get(&repo, &info.sha, &weights).map_err(problem)?;
        if is_index(&file) {
            for shard in shards::files(&file).map_err(|error| error.to_string())? {
                self.get(&repo, &info.sha, &shard).map_err(problem)?;
            }
        }
        let reference = self.cache.repo(self.repo(&self.revision)).create_ref(&info.sha);
        reference.map_err(|error| problem(ApiError::IoError(error)))?;
        Ok(file)
    }

    /// A file of a commit, downloaded unless it is in the cache.
    fn get(&self, repo: &ApiRepo, commit: &str, name: &str) -> Result<PathBuf, ApiError> {
        let path = self.cache.repo(self.repo(commit)).pointer_path(commit).join(name);
        if path.exists() { Ok(path) } else { repo.download(name) }
    }

    fn problem(&self, error: &ApiError) -> String {
        let text = error.to_string().replace('\n', " ");
        if let ApiError::IoError(_) | ApiError::LockAcquisition(_) = error {
            return format!("can't be stored in the cache {} ({text}); set HF_HUB_CACHE", self.folder().display());
        }
        if ["401", "403", "404"].iter().any(|status| text.contains(&format!("status: {status}"))) {
            let advice = "check its name and revision; for a private or gated model, set HF_TOKEN";
            return format!("isn't on the hub, or isn't open to you ({text}); {advice}");
        }
        let advice = "check the network, or give a folder with config.json and model.safetensors";
        format!("isn't in the cache and can't be downloaded ({text}); {advice}")
    }
}

fn is_index(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "json")
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of all that the hub's programs keep.
fn home() -> Result<PathBuf> {
    if let Some(home) = variable("HF_HOME") {
        return Ok(home.into());
    }
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let cache = cache.ok_or_else(|| Error::argument("there is no home folder for models of the hub; set HF_HOME"))?;
    Ok(cache.join("huggingface"))
}

fn cache_folder() -> Result<PathBuf> {
    let folder = match variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        Some(folder) => folder.into(),
        None => home()?.join("hub"),
    };
    std::path::absolute(&folder).map_err(|error| Error::file(folder, format!("can't be a cache ({error})")))
}

fn token() -> Option<String> {
    let file = || std::fs::read_to_string(home().ok()?.join("token")).ok();
    let token = variable("HF_TOKEN").or_else(file)?.trim().to_string();
    (!token.is_empty()).then_some(token)
}

fn is_offline() -> bool {
    let set = |name| variable(name).is_some_and(|value| matches!(&*value.to_lowercase(), "1" | "on" | "yes" | "true"));
    set("HF_HUB_OFFLINE") || set("TRANSFORMERS_OFFLINE")
}
