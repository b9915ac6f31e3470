//! The Open Inference Protocol over gRPC, as any client of it speaks. Messages are written by hand, as bytes,
//! so that a wrong field number of the server's would show.

#![allow(clippy::unwrap_used, missing_docs)] // A test may panic.

mod common;

use std::net::SocketAddr;

use bytes::Bytes;
use common::{KEY, Random, SIDE, classifier, keys, little_endian, logits, options, pictures, pixels, server};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use inception::Pool;
use tokio::net::TcpStream;

/// A connection.
struct Client {
    send: SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

/// A field of a message that has a length: a string, bytes, a message.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    [&varint(u64::from(number << 3 | 2)), &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The fields of a message: numbers, and what they hold.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    let read = |message: &mut &[u8]| {
        let length = message.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let (bytes, rest) = message.split_at(length);
        *message = rest;
        bytes.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
    };
    while !message.is_empty() {
        let tag = read(&mut message);
        let value = match tag & 7 {
            0 => varint(read(&mut message)),
            2 => {
                let length = usize::try_from(read(&mut message)).unwrap();
                let (bytes, rest) = message.split_at(length);
                message = rest;
                bytes.to_vec()
            }
            kind => panic!("kind {kind}"),
        };
        fields.push((tag >> 3, value));
    }
    fields
}

fn only(message: &[u8], number: u64) -> Vec<u8> {
    let mut found = fields(message).into_iter().filter(|(field, _)| *field == number);
    let (_, value) = found.next().unwrap_or_else(|| panic!("no field {number}"));
    assert!(found.next().is_none());
    value
}

impl Client {
    async fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { send, address }
    }

    /// Calls a method with these bytes as they are: gRPC's status, its text, and the message.
    async fn raw(&mut self, method: &str, body: Vec<u8>, key: Option<&str>) -> (u32, String, Vec<u8>) {
        let uri = format!("http://{}/inference.GRPCInferenceService/{method}", self.address);
        let mut request =
            Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let reply = self.send.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        assert_eq!(reply.status(), 200);
        let head = reply.headers().clone();
        let collected = reply.into_body().collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or(head);
        let text = |name: &str| {
            trailers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let (status, reason) = (text("grpc-status").parse().unwrap(), text("grpc-message"));
        let body = collected.to_bytes();
        (status, reason, body.get(5..).unwrap_or_default().to_vec())
    }

    async fn call(&mut self, method: &str, message: &[u8]) -> (u32, String, Vec<u8>) {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        self.raw(method, [&[0], &length[..], message].concat(), None).await
    }

    async fn ok(&mut self, method: &str, message: &[u8]) -> Vec<u8> {
        let (status, reason, answer) = self.call(method, message).await;
        assert_eq!(status, 0, "{method}: {reason}");
        answer
    }
}

/// An input tensor, its values apart.
fn tensor(datatype: &str, shape: &[u64], contents: &[u8]) -> Vec<u8> {
    let shape: Vec<u8> = shape.iter().flat_map(|&extent| varint(extent)).collect();
    let contents = if contents.is_empty() { Vec::new() } else { field(5, contents) };
    [field(1, b"input"), field(2, datatype.as_bytes()), field(3, &shape), contents].concat()
}

fn request(tensor: &[u8], rest: &[u8]) -> Vec<u8> {
    [&field(1, b"net"), &field(3, b"an id"), &field(5, tensor), rest].concat()
}

fn run(test: impl AsyncFnOnce()) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test());
}

#[test]
fn every_way_to_ask_gives_the_logits_of_predict() {
    let server = server(options());
    let address = server.grpc().unwrap();
    let classifier = classifier(1, &Pool::new(2));
    let image = [1, 3, u64::from(SIDE), u64::from(SIDE)];
    run(async || {
        let mut client = Client::new(address).await;
        for picture in pictures() {
            let wanted = little_endian(&logits(&classifier, &picture));
            let pixels = little_endian(&pixels(&classifier, &picture));
            let length = u32::try_from(picture.len()).unwrap().to_le_bytes();
            // Values beside the tensors, and with them.
            let raw = [
                request(&tensor("FP32", &image, b""), &field(7, &pixels)),
                request(&tensor("BYTES", &[1], b""), &field(7, &[&length, &picture[..]].concat())),
            ];
            for message in raw {
                let answer = client.ok("ModelInfer", &message).await;
                assert_eq!(only(&answer, 6), wanted);
                assert_eq!(only(&answer, 3), b"an id");
                let output = only(&answer, 5);
                assert_eq!((only(&output, 1), only(&output, 2)), (b"logits".to_vec(), b"FP32".to_vec()));
                assert_eq!(only(&output, 3), [1, 0xe8, 0x07], "1 and 1000");
            }
            let with = [
                request(&tensor("FP32", &image, &field(6, &pixels)), b""),
                request(&tensor("BYTES", &[1, 1], &field(8, &picture)), b""),
            ];
            for message in with {
                let answer = client.ok("ModelInfer", &message).await;
                assert_eq!(only(&only(&only(&answer, 5), 5), 6), wanted);
            }
            // The likeliest class, Triton's extension.
            let parameter = [field(1, b"classification"), field(2, &[2 << 3, 1])].concat();
            let wants = field(6, &[field(1, b"logits"), field(2, &parameter)].concat());
            let message = request(&tensor("BYTES", &[1], &field(8, &picture)), &wants);
            let answer = client.ok("ModelInfer", &message).await;
            let line = only(&only(&only(&answer, 5), 5), 8);
            assert_eq!(String::from_utf8(line).unwrap().split(':').count(), 3);
        }
    });
    server.stop();
}

#[test]
fn what_a_server_says_of_itself_and_refuses() {
    let mut options = options();
    options.limits.body_bytes = 100_000;
    let server = server(options);
    let address = server.grpc().unwrap();
    run(async || {
        let mut client = Client::new(address).await;
        for method in ["ServerLive", "ServerReady"] {
            assert_eq!(client.ok(method, b"").await, [8, 1]);
        }
        assert_eq!(client.ok("ModelReady", &field(1, b"net")).await, [8, 1]);
        assert_eq!(only(&client.ok("ServerMetadata", b"").await, 1), b"inception");
        let metadata = client.ok("ModelMetadata", &field(1, b"net")).await;
        assert_eq!(only(&only(&metadata, 4), 2), b"FP32");
        assert_eq!(only(&only(&metadata, 5), 1), b"logits");
        let config = only(&client.ok("ModelConfig", &field(1, b"net")).await, 1);
        assert_eq!((only(&config, 4), only(&only(&config, 5), 4)), (vec![32], vec![3, 64, 64]));
        assert_eq!(only(&only(&client.ok("RepositoryIndex", b"").await, 1), 3), b"READY");

        let image = [1, 3, u64::from(SIDE), u64::from(SIDE)];
        let picture = &pictures()[1];
        let unknown = request(&tensor("BYTES", &[1], &field(8, picture)), &field(6, &field(1, b"other")));
        for (method, message, status, text) in [
            ("None", b"".to_vec(), 12, "another method"),
            ("ModelMetadata", field(1, b"none"), 5, "no model"),
            ("ModelMetadata", [field(1, b"net"), field(2, b"2")].concat(), 5, "no model"),
            ("ModelInfer", field(1, b"net"), 3, "one input is wanted"),
            ("ModelInfer", request(&tensor("FP32", &image, b""), b""), 3, "12288 numbers"),
            ("ModelInfer", request(&tensor("BYTES", &[1], &field(8, b"none")), b""), 3, "expected JPEG"),
            (
                "ModelInfer",
                request(&tensor("BYTES", &[1], &field(8, picture)), &field(7, picture)),
                3,
                "not in both",
            ),
            ("ModelInfer", unknown, 3, "no `other`"),
            ("ModelInfer", request(&tensor("BYTES", &[1], &field(8, &[0; 200_000])), b""), 8, "more than"),
        ] {
            let (found, reason, _) = client.call(method, &message).await;
            assert!(
                found == status && reason.replace("%20", " ").replace("%60", "`").contains(text),
                "{method}: {found} {reason}"
            );
        }
        // Damaged messages, and lengths that are not theirs.
        let good = request(&tensor("BYTES", &[1], &field(8, b"abc")), b"");
        let framed = [&[0], &(good.len() as u32).to_be_bytes()[..], &good].concat();
        let mut random = Random(3);
        for _ in 0..2_000 {
            let (status, reason, _) = client.raw("ModelInfer", random.damage(&framed), None).await;
            assert!(status != 2 && status < 17, "{status}: {reason}");
        }
        assert_eq!(client.ok("ServerLive", b"").await, [8, 1]);
    });
    server.stop();
}

#[test]
fn who_has_no_key_is_told_nothing() {
    let mut options = options();
    options.keys = Some(keys());
    let server = server(options);
    let address = server.grpc().unwrap();
    run(async || {
        let mut client = Client::new(address).await;
        let empty = vec![0; 5];
        for method in ["ServerMetadata", "RepositoryIndex", "ModelInfer", "None"] {
            assert_eq!(client.raw(method, empty.clone(), None).await.0, 16, "{method}");
            assert_eq!(
                client.raw(method, empty.clone(), Some("another-key-of-them")).await.0,
                16,
                "{method}"
            );
        }
        assert_eq!(client.raw("RepositoryIndex", empty.clone(), Some(KEY)).await.0, 0);
        assert_eq!(client.raw("ServerLive", empty, None).await.0, 0);
    });
    server.stop();
}
