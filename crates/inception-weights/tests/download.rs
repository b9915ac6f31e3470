//! Downloads from a server on this machine that misbehaves as real ones do.

#![cfg(feature = "download")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use inception_weights::{Cache, Checkpoint, Error};

/// What the server does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Act {
    Whole,
    /// Closes the connection after so many bytes.
    Cut(usize),
    Status(u16),
    WebPage,
}

/// Path and range of a request.
type Request = (String, Option<String>);

struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

fn body() -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens/weights/files/protocol4.pdparams"),
    )
    .unwrap()
}

/// Answers each request with the next act, and with the last from then on.
fn server(acts: &'static [Act]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    std::thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(|line| line.unwrap());
            let first = lines.next().unwrap();
            let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let header = |name: &str| {
                headers
                    .iter()
                    .find_map(|h| h.to_lowercase().strip_prefix(&format!("{name}: ")).map(str::to_owned))
            };
            let range = header("range");
            let path = first.split(' ').nth(1).unwrap().to_owned();
            log.lock().unwrap().push((path, range.clone()));
            let whole = body();
            let start = match (&range, header("if-range").as_deref()) {
                (Some(range), Some("\"v1\"")) => {
                    range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap()
                }
                _ => 0,
            };
            let rest = &whole[start..];
            let (status, extra) = match start {
                0 => ("200 OK".to_owned(), String::new()),
                _ => (
                    "206 Partial Content".to_owned(),
                    format!("Content-Range: bytes {start}-{}/{}\r\n", whole.len() - 1, whole.len()),
                ),
            };
            let act = acts[i.min(acts.len() - 1)];
            let (status, content): (String, &[u8]) = match act {
                Act::Status(code) => (format!("{code} Sorry"), b""),
                Act::WebPage => ("200 OK".to_owned(), b"<!DOCTYPE html><html>Please log in</html>"),
                Act::Whole | Act::Cut(_) => (status, rest),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"v1\"\r\nConnection: close\r\n{extra}\r\n",
                content.len()
            );
            let sent = if let Act::Cut(count) = act { &content[..count] } else { content };
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(sent).unwrap();
        }
    });
    Server { address, seen }
}

fn spec(name: &str) -> &'static inception_nn::ModelSpec {
    inception_nn::model(name).unwrap()
}

fn cache(folder: &Path, mirror: &str) -> Cache {
    Cache { folder: folder.to_owned(), mirror: Some(mirror.to_owned()), offline: false }
}

#[test]
fn a_download_is_kept_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Act::Whole]);
    let cache = cache(&folder.path().join("new"), &server.address);
    let mut last = None;
    let path = cache.fetch(spec("InceptionV3"), &mut |p| last = Some(p)).unwrap();
    let size = body().len() as u64;
    assert_eq!(last.map(|p| (p.done, p.total)), Some((size, Some(size))));
    assert_eq!(std::fs::read(&path).unwrap(), body());
    assert_eq!(Checkpoint::open(&path).unwrap().entries.len(), 5);
    // Not again, and offline too.
    let offline = Cache { offline: true, ..cache.clone() };
    assert_eq!(offline.fetch(spec("InceptionV3"), &mut |_| {}).unwrap(), path);
    assert_eq!(
        server.seen.lock().unwrap()[..],
        [("/dygraph/legendary_models/InceptionV3_pretrained.pdparams".to_owned(), None)]
    );
    // A file cut short, and one replaced.
    for change in [&body()[..100], b"something else"] {
        std::fs::write(&path, change).unwrap();
        let error = cache.fetch(spec("InceptionV3"), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
    let left: Vec<_> = std::fs::read_dir(&cache.folder).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("part")), "{left:?}");
}

#[test]
fn a_broken_download_is_taken_up_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Act::Cut(300), Act::Cut(200), Act::Whole]);
    let path = cache(folder.path(), &server.address).fetch(spec("GoogLeNet"), &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), body());
    let ranges: Vec<_> = server.seen.lock().unwrap().iter().map(|(_, range)| range.clone()).collect();
    assert_eq!(ranges, [None, Some("bytes=300-".to_owned()), Some("bytes=500-".to_owned())]);
}

#[test]
fn what_has_arrived_serves_the_next_call() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Act::Cut(100), Act::Cut(0), Act::Cut(0), Act::Whole]);
    let cache = cache(folder.path(), &server.address);
    let error = cache.fetch(spec("GoogLeNet"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Download { .. }), "{error}");
    assert!(!folder.path().join("GoogLeNet.pdparams").exists());
    cache.fetch(spec("GoogLeNet"), &mut |_| {}).unwrap();
    assert_eq!(server.seen.lock().unwrap()[3].1.as_deref(), Some("bytes=100-"));
}

#[test]
fn what_is_no_checkpoint_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Act::WebPage]);
    let error = cache(folder.path(), &server.address).fetch(spec("GoogLeNet"), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("a web page"), "{error}");
    assert!(!folder.path().join("GoogLeNet.pdparams").exists());
    assert!(!folder.path().join("GoogLeNet.pdparams.part").exists());
}

#[test]
fn refusals_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Act::Status(404)]);
    let cache = cache(folder.path(), &server.address);
    let error = cache.fetch(spec("GoogLeNet"), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("GoogLeNet_pretrained"), "{error}");
    assert_eq!(server.seen.lock().unwrap().len(), 1, "asking again would not help");
    let offline = Cache { offline: true, ..cache.clone() };
    let error = offline.fetch(spec("GoogLeNet"), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("GoogLeNet.pdparams") && error.contains("http://"), "{error}");
    let error = cache.fetch(spec("timm-xception41"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::NotPublished { .. }), "{error}");
}

/// Eight at once: one asks the server, the others wait for it.
#[test]
fn downloads_of_one_file_wait_for_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(&[Act::Whole]);
    let cache = cache(folder.path(), &server.address);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| cache.fetch(spec("GoogLeNet"), &mut |_| {}).unwrap());
        }
    });
    assert_eq!(server.seen.lock().unwrap().len(), 1);
}

/// A file whose name says its checksum is taken only if it has that one.
#[test]
fn a_known_checksum_is_required() {
    let server = server(&[Act::Whole]);
    let folder = tempfile::tempdir().unwrap();
    let error =
        cache(folder.path(), &server.address).fetch(spec("fid-inception_v3"), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("begins with 6726825d"), "{error}");
    let (path, _) = server.seen.lock().unwrap()[0].clone();
    assert_eq!(path, "/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth");
    let left = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".etag")), "{left:?}");
}
