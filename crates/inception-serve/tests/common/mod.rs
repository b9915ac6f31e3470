//! A small network behind a server, and clients that say exactly what is sent.

#![allow(dead_code)] // Each test uses a part of it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use inception::data::Preprocessing;
use inception::{Classifier, Pool, RunOptions, Weights, data};
use inception_serve::{Keys, ModelSource, ServeOptions, Server};
use serde_json::Value;

/// Rows and columns of an image: as few as GoogLeNet takes with some to spare, so that it computes in a
/// millisecond.
pub const SIDE: u32 = 64;

/// Seeded weights of GoogLeNet, for small images.
pub fn classifier(seed: u64, pool: &Pool) -> Classifier {
    let mut options = RunOptions::default();
    (options.pool, options.batch_invariant) = (Some(pool.clone()), true);
    let spec = inception::model("GoogLeNet").unwrap();
    let small = |own: &Preprocessing| Preprocessing { resize_short: SIDE + 8, crop: SIDE, ..*own };
    Classifier::with_preprocessing(spec, &Weights::Random { seed }, &options, small).unwrap()
}

/// The model `name`.
pub fn source(name: &str, seed: u64) -> ModelSource {
    // More threads than most machines have cores for, so that batches are cut in every way.
    let pool = Pool::new(2);
    ModelSource::new(name, move || Ok((classifier(seed, &pool), Vec::new())))
}

/// On a free port, and quick to stop.
pub fn options() -> ServeOptions {
    let mut options = ServeOptions::on("127.0.0.1:0".parse().unwrap());
    options.grpc = options.http;
    options.lame_duck = Duration::from_millis(100);
    options
}

/// A server of the model `net`, with the weights of seed 1.
pub fn server(options: ServeOptions) -> Server {
    Server::start(options, vec![source("net", 1)]).unwrap()
}

/// Files of pictures in the repository.
pub fn picture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/images").join(name)
}

/// Photographs of the repository, encoded.
pub fn pictures() -> Vec<Vec<u8>> {
    let folder = picture_path("");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| data::is_image(path));
    paths.sort();
    let pictures: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(pictures.len() > 1);
    pictures
}

/// The picture as the network takes it.
pub fn pixels(classifier: &Classifier, picture: &[u8]) -> Vec<f32> {
    let mut pixels = vec![0.0; classifier.preprocessing().output_len()];
    classifier.preprocessing().apply(&data::decode(picture).unwrap(), &mut pixels).unwrap();
    pixels
}

/// The logits of `predict`, on a runner without batches.
pub fn logits(classifier: &Classifier, picture: &[u8]) -> Vec<f32> {
    classifier.predict(&data::decode(picture).unwrap()).unwrap().logits
}

/// Numbers of an answer.
pub fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// Floats as binary tensors have them.
pub fn little_endian(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A file with one key, [`KEY`], and the keys in it.
pub fn keys() -> Keys {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\n")).unwrap();
    Keys::read(file.path()).unwrap()
}

/// A key of [`keys`].
pub const KEY: &str = "a-key-of-the-tests";

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection.
pub struct Client {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self::connect(address).unwrap()
    }

    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { address, stream: BufReader::new(stream) })
    }

    pub fn of(server: &Server) -> Self {
        Self::new(server.http().unwrap())
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Says that nothing more is sent.
    pub fn close_writing(&mut self) -> io::Result<()> {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write)
    }

    /// Reads an answer; `UnexpectedEof` where the connection ended before one began.
    pub fn read(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        let mut next = |stream: &mut BufReader<TcpStream>| {
            line.clear();
            match stream.read_line(&mut line)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok::<_, io::Error>(line.trim_end().to_owned()),
            }
        };
        let status = next(&mut self.stream)?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = BTreeMap::new();
        loop {
            let line = next(&mut self.stream)?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status: status.expect("a status"), headers, body })
    }

    /// A request and its answer.
    pub fn try_send(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> io::Result<Reply> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for header in headers {
            head += header;
            head += "\r\n";
        }
        self.write(&[head.as_bytes(), b"\r\n", body].concat())?;
        self.read()
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> Reply {
        self.send("POST", path, &[], body)
    }
}

/// A generator of numbers, the same in every run (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// `bytes` with some of them changed, cut off, or put in.
    pub fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(8) {
            let at = self.below(damaged.len());
            match self.below(8) {
                0 => damaged.truncate(at),
                1 => drop(damaged.drain(..at.min(8))),
                2 => damaged.insert(at.min(damaged.len()), self.next() as u8),
                3 if damaged.len() >= 4 => {
                    // A length or a count, perhaps.
                    let at = at.min(damaged.len() - 4);
                    let number = [0, 1, 0x7fff_ffff, u32::MAX][self.below(4)];
                    damaged[at..at + 4].copy_from_slice(&number.to_be_bytes());
                }
                _ if !damaged.is_empty() => damaged[at] = self.next() as u8,
                _ => {}
            }
        }
        damaged
    }
}
