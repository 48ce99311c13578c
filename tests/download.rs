//! Downloads from a server on the loopback interface: resumed, broken off, with wrong content, and on a full disk.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vitlab_dataset::download::{download, part};
use vitlab_dataset::{Error, Result};

const LENGTH: usize = 300_000;

fn content() -> Vec<u8> {
    (0..LENGTH as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// The server's answer to one request.
#[derive(Clone, Copy)]
enum Answer {
    /// The content from the requested byte to the end.
    Whole,
    /// The same, but the connection breaks after this many bytes.
    BreakAfter(usize),
    /// The whole content, as from a server without range support.
    IgnoreRange,
    NotFound,
}

/// Serves one answer per connection; the receiver gets the first byte of each request's range.
fn serve(answers: Vec<Answer>) -> (String, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.gz", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let from = range(&stream);
            sender.send(from).unwrap();
            respond(stream, answer, from);
        }
    });
    (url, requests)
}

fn range(stream: &TcpStream) -> usize {
    let mut from = 0;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap().to_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    from
}

fn respond(mut stream: TcpStream, answer: Answer, from: usize) {
    let content = content();
    let (status, body) = match answer {
        Answer::NotFound => ("404 Not Found", &content[..0]),
        Answer::IgnoreRange => ("200 OK", &content[..]),
        _ if from >= content.len() => ("416 Range Not Satisfiable", &content[..0]),
        _ if from > 0 => ("206 Partial Content", &content[from..]),
        _ => ("200 OK", &content[..]),
    };
    let sent = if let Answer::BreakAfter(bytes) = answer { &body[..bytes] } else { body };
    // The client may hang up early.
    let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(sent);
}

fn equals_content(path: &Path) -> Result<()> {
    match fs::read(path).unwrap() == content() {
        true => Ok(()),
        false => Err(Error::file(path, "differs")),
    }
}

fn target(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("x.gz")
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (url, requests) = serve(vec![Answer::BreakAfter(100_000), Answer::Whole]);
    download(&url, &target(&folder), equals_content, &|_| {}).unwrap();
    assert_eq!(requests.iter().collect::<Vec<_>>(), [0, 100_000]);
    assert_eq!(fs::read(target(&folder)).unwrap(), content());
    assert!(!part(&target(&folder)).exists());
}

#[test]
fn a_later_call_resumes_and_a_server_without_ranges_begins_anew() {
    for answer in [Answer::Whole, Answer::IgnoreRange] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(part(&target(&folder)), &content()[..50_000]).unwrap();
        let (url, requests) = serve(vec![answer]);
        download(&url, &target(&folder), equals_content, &|_| {}).unwrap();
        assert_eq!(requests.iter().collect::<Vec<_>>(), [50_000]);
        assert_eq!(fs::read(target(&folder)).unwrap(), content());
    }
}

#[test]
fn a_truncated_download_keeps_its_part_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _requests) = serve(vec![Answer::BreakAfter(1000); 3]);
    let error = download(&url, &target(&folder), equals_content, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("broke off after 3000") && error.contains("try again"), "{error}");
    assert_eq!(fs::read(part(&target(&folder))).unwrap(), content()[..3000]);
    assert!(!target(&folder).exists());
}

#[test]
fn wrong_content_is_thrown_away_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(target(&folder), "as it was").unwrap();
    // A part of another version of the file makes the whole wrong.
    fs::write(part(&target(&folder)), vec![0; 1000]).unwrap();
    let (url, _requests) = serve(vec![Answer::Whole]);
    let error = download(&url, &target(&folder), equals_content, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("the content is wrong and was deleted"), "{error}");
    assert!(!part(&target(&folder)).exists());
    assert_eq!(fs::read_to_string(target(&folder)).unwrap(), "as it was");
}

#[test]
fn a_refusal_names_url_and_status() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _requests) = serve(vec![Answer::NotFound]);
    let error = download(&url, &target(&folder), equals_content, &|_| {}).unwrap_err().to_string();
    assert!(error.starts_with(&url) && error.contains("404"), "{error}");
}

#[test]
fn a_server_that_is_not_there_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let started = Instant::now();
    let url = format!("http://127.0.0.1:{port}/x.gz");
    let error = download(&url, &target(&folder), equals_content, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("can't be reached"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(15));
}

/// Every write to /dev/full fails with "no space left".
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/full", part(&target(&folder))).unwrap();
    let (url, _requests) = serve(vec![Answer::Whole]);
    let error = download(&url, &target(&folder), equals_content, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("there is no room left") && error.contains("make room and try again"), "{error}");
    assert!(!target(&folder).exists());
}
