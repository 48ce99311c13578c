//! Models of the hub: from a cache laid out as Python's huggingface_hub does, and downloaded from a server into one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const COMMIT: &str = "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3";

/// Runs `vitlab convert hf://…` with this cache, then compares the tensors.
fn convert(cache: &Path, model: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("out.safetensors");
    let mut command = vitlab();
    command.env("HF_HUB_CACHE", cache).envs(variables.iter().copied());
    let (good, _, said) = run(command.arg("convert").arg(model).arg(&path));
    if good {
        let found = Checkpoint::open(&path, None).unwrap();
        assert_content(&found, "weights");
        assert!(found.config.is_some() && found.metadata.contains_key("config"));
    }
    assert_eq!(said.lines().count(), usize::from(!good), "{said}");
    (good, said)
}

/// blobs, refs and snapshots, as huggingface_hub makes them.
#[cfg(unix)]
fn cache(folder: &Path, files: &Path) -> PathBuf {
    let model = folder.join("models--someone--small-vit");
    let snapshot = model.join("snapshots").join(COMMIT);
    for folder in [model.join("blobs"), model.join("refs"), snapshot.clone()] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(model.join("refs/main"), COMMIT).unwrap();
    for (index, entry) in fs::read_dir(files).unwrap().enumerate() {
        let name = entry.unwrap().file_name();
        fs::copy(files.join(&name), model.join(format!("blobs/{index}"))).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{index}"), snapshot.join(name)).unwrap();
    }
    snapshot
}

#[cfg(unix)]
#[test]
fn from_the_cache_without_network() {
    for files in ["hub", "sharded_safetensors", "sharded_bin"] {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = cache(folder.path(), &file(files));
        let offline = [("HF_HUB_OFFLINE", "1")];
        let commit = format!("hf://someone/small-vit@{COMMIT}");
        for model in ["hf://someone/small-vit", "hf://someone/small-vit@main", &commit] {
            let (good, said) = convert(folder.path(), model, &offline);
            assert!(good, "{said}");
        }
        // A cached model needs no server.
        let nowhere = [("HF_ENDPOINT", "http://127.0.0.1:9")];
        assert!(convert(folder.path(), "hf://someone/small-vit", &nowhere).0);
        let (good, said) = convert(folder.path(), "hf://someone/other", &offline);
        assert!(!good && said.contains("hf://someone/other: isn't in the cache") && said.contains("HF_HUB_OFFLINE"));
        let (good, said) = convert(folder.path(), "hf://someone/other", &nowhere);
        assert!(!good && said.contains("hf://someone/other: isn't in the cache and can't be downloaded"), "{said}");
        if files.starts_with("sharded") {
            let mut parts = fs::read_dir(&snapshot).unwrap().map(|entry| entry.unwrap().path());
            let part = parts.find(|path| path.to_str().unwrap().contains("00002-of")).unwrap();
            fs::remove_file(part).unwrap();
            let (good, said) = convert(folder.path(), "hf://someone/small-vit", &offline);
            assert!(!good && said.contains("lacks") && said.contains("00002-of-00002"), "{said}");
        }
    }
}

#[test]
fn names_that_are_none() {
    for name in ["hf://", "hf://vit", "hf://a/b/c", "hf://../b", "hf://a/..", "hf://a/b@", "hf://a/b@../../x", "hf:a/b"]
    {
        let message = refusal(name, None);
        assert!(message.contains("write hf://OWNER/NAME"), "{name}: {message}");
    }
}

/// A server with one public and one private model; it notes the requests.
struct Hub {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start(files: PathBuf) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let hub = Hub { endpoint: endpoint.clone(), requests: requests.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(&stream, &endpoint, &files, &requests);
            }
        });
        hub
    }
}

/// Answers the one request of a connection.
fn answer(mut stream: &TcpStream, endpoint: &str, files: &Path, requests: &Mutex<Vec<String>>) {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let lines: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        lines.iter().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else { return };
    requests.lock().unwrap().push(path.to_string());
    let mut reply = |status: &str, headers: &str, body: &[u8]| {
        let len = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\nConnection: close\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    };
    let private = path.contains("someone/private") && header("Authorization").is_none_or(|(_, t)| t != "Bearer secret");
    if private {
        return reply("401 Unauthorized", "", b"");
    }
    if path.starts_with("/api/models/someone/") && path.ends_with("/revision/main") {
        let names = fs::read_dir(files).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let siblings: Vec<_> = names.map(|name| serde_json::json!({"rfilename": name})).collect();
        let info = serde_json::json!({"siblings": siblings, "sha": COMMIT});
        return reply("200 OK", "Content-Type: application/json\r\n", info.to_string().as_bytes());
    }
    let name = path.rsplit('/').next().unwrap();
    let Ok(bytes) = fs::read(files.join(name)) else { return reply("404 Not Found", "", b"") };
    // Large files are redirected to another place.
    if path.contains("/resolve/") && !name.ends_with("json") {
        let headers =
            format!("Location: {endpoint}/cdn/{name}\r\nX-Repo-Commit: {COMMIT}\r\nX-Linked-Etag: \"blob-{name}\"\r\n");
        return reply("302 Found", &headers, b"");
    }
    let (_, range) = header("Range").expect("hf-hub asks for a range");
    let (start, end) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (start, last) = (start.parse::<usize>().unwrap(), bytes.len() - 1);
    let end = end.parse::<usize>().map_or(last, |end| end.min(last));
    let headers = format!(
        "Content-Range: bytes {start}-{end}/{}\r\nETag: \"blob-{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n",
        bytes.len()
    );
    reply("206 Partial Content", &headers, &bytes[start..=end]);
}

#[test]
fn downloaded_once() {
    for files in ["hub", "sharded_safetensors"] {
        let hub = Hub::start(file(files));
        let cache = tempfile::tempdir().unwrap();
        let endpoint = [("HF_ENDPOINT", &hub.endpoint[..])];
        let (good, said) = convert(cache.path(), "hf://someone/small-vit", &endpoint);
        assert!(good, "{said}");
        let requests = hub.requests.lock().unwrap().len();
        assert!(requests > 3);
        let snapshot = cache.path().join("models--someone--small-vit/snapshots").join(COMMIT);
        assert!(snapshot.join("config.json").exists() && !snapshot.join("README.md").exists());
        assert!(convert(cache.path(), "hf://someone/small-vit", &endpoint).0);
        assert!(convert(cache.path(), "hf://someone/small-vit", &[("HF_HUB_OFFLINE", "true")]).0);
        assert_eq!(hub.requests.lock().unwrap().len(), requests);
        let (good, said) = convert(cache.path(), "hf://nobody/nothing", &endpoint);
        assert!(!good && said.contains("hf://nobody/nothing: isn't on the hub, or isn't open to you"), "{said}");
    }
}

#[test]
fn private_models_need_a_token() {
    let hub = Hub::start(file("hub"));
    let cache = tempfile::tempdir().unwrap();
    let endpoint = ("HF_ENDPOINT", &hub.endpoint[..]);
    let home = tempfile::tempdir().unwrap();
    let home = ("HF_HOME", home.path().to_str().unwrap());
    let (good, said) = convert(cache.path(), "hf://someone/private", &[endpoint, home]);
    assert!(!good && said.contains("set HF_TOKEN"), "{said}");
    assert!(convert(cache.path(), "hf://someone/private", &[endpoint, home, ("HF_TOKEN", "secret")]).0);
    // `huggingface-cli login` keeps the token here.
    fs::write(Path::new(home.1).join("token"), "secret\n").unwrap();
    let cache = tempfile::tempdir().unwrap();
    assert!(convert(cache.path(), "hf://someone/private", &[endpoint, home]).0);
}
