//! What clients of HTTP are answered.

#![allow(clippy::unwrap_used, missing_docs)] // A test may panic.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{
    Client, KEY, SIDE, classifier, keys, little_endian, logits, numbers, options, pictures, pixels, server,
    source,
};
use inception::Pool;
use inception_serve::{Error, ModelSource, ServeOptions, Server};
use serde_json::{Value, json};

const INFER: &str = "/v2/models/net/infer";
const CLASSIFY: &str = "/v1/models/net/classify";

/// A request in JSON with binary data behind it, and its header.
fn binary(request: &Value, data: &[u8]) -> (String, Vec<u8>) {
    let text = request.to_string();
    (format!("inference-header-content-length: {}", text.len()), [text.as_bytes(), data].concat())
}

/// Strings with their lengths before them.
fn strings(parts: &[&[u8]]) -> Vec<u8> {
    parts
        .iter()
        .flat_map(|part| [&u32::try_from(part.len()).unwrap().to_le_bytes(), *part].concat())
        .collect()
}

#[test]
fn every_way_to_ask_gives_the_logits_of_predict() {
    let server = server(options());
    let mut client = Client::of(&server);
    let classifier = classifier(1, &Pool::new(2));
    for picture in pictures() {
        let wanted = logits(&classifier, &picture);
        let answer = client.post(&format!("{CLASSIFY}?logits=true&top_k=3"), &picture).json();
        assert_eq!(numbers(&answer["logits"]), wanted);
        assert_eq!((&answer["model"], &answer["image"]), (&json!("net"), &json!("-")));
        let best = wanted.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert_eq!(answer["top"][0]["index"], best);
        assert_eq!(answer["top"].as_array().unwrap().len(), 3);

        let image = pixels(&classifier, &picture);
        let shape = json!([1, 3, SIDE, SIDE]);
        let in_json = json!({ "id": "7", "inputs": [{ "name": "input", "datatype": "FP32", "shape": shape, "data": [image] }] });
        let answer = client.post(INFER, in_json.to_string().as_bytes()).json();
        assert_eq!(numbers(&answer["outputs"][0]["data"]), wanted);
        assert_eq!(answer["outputs"][0]["shape"], json!([1, 1000]));
        assert_eq!(
            (&answer["id"], &answer["model_name"], &answer["model_version"]),
            (&json!("7"), &json!("net"), &json!("1"))
        );

        let data = little_endian(&image);
        let (header, body) = binary(
            &json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": shape, "parameters": { "binary_data_size": data.len() } }],
                     "outputs": [{ "name": "logits", "parameters": { "binary_data": true } }] }),
            &data,
        );
        let answer = client.send("POST", "/v2/models/net/versions/1/infer", &[&header], &body);
        let length: usize = answer.headers["inference-header-content-length"].parse().unwrap();
        assert_eq!(answer.body[length..], little_endian(&wanted));
        let text: Value = serde_json::from_slice(&answer.body[..length]).unwrap();
        assert_eq!(text["outputs"][0]["parameters"]["binary_data_size"], 4000);

        let encoded = json!({ "inputs": [{ "name": "input", "datatype": "BYTES", "shape": [1], "data": [STANDARD.encode(&picture)] }] });
        let answer = client.post(INFER, encoded.to_string().as_bytes()).json();
        assert_eq!(numbers(&answer["outputs"][0]["data"]), wanted);
    }
    server.stop();
}

#[test]
fn several_pictures_in_a_request() {
    let server = server(options());
    let mut client = Client::of(&server);
    let classifier = classifier(1, &Pool::new(2));
    let pictures = pictures();
    let wanted: Vec<Vec<f32>> = pictures.iter().map(|picture| logits(&classifier, picture)).collect();

    let parts: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let data = strings(&parts);
    let request = json!({ "inputs": [{ "name": "input", "datatype": "BYTES", "shape": [pictures.len(), 1],
                                       "parameters": { "binary_data_size": data.len() } }] });
    let (header, body) = binary(&request, &data);
    let answer = client.send("POST", INFER, &[&header], &body).json();
    assert_eq!(numbers(&answer["outputs"][0]["data"]), wanted.concat());

    // Triton's classes instead of logits.
    let mut classes = request;
    classes["outputs"] = json!([{ "name": "logits", "parameters": { "classification": 2 } }]);
    let (header, body) = binary(&classes, &data);
    let answer = client.send("POST", INFER, &[&header], &body).json();
    assert_eq!(answer["outputs"][0]["shape"], json!([pictures.len(), 2]));
    let line = answer["outputs"][0]["data"][0].as_str().unwrap();
    let best = wanted[0].iter().copied().fold(f32::MIN, f32::max);
    let index = wanted[0].iter().position(|&logit| logit == best).unwrap();
    assert!(line.starts_with(&format!("{best:.6}:{index}:")), "{line}");

    // One that is broken does not cost the others their answers.
    let part = |name: &str, bytes: &[u8]| {
        let head =
            format!("--xyz\r\ncontent-disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n"].concat()
    };
    let body = [
        part("a.jpg", &pictures[0]),
        part("b.jpg", b"none"),
        part("c.jpg", &pictures[1]),
        b"--xyz--\r\n".to_vec(),
    ]
    .concat();
    let form = "content-type: multipart/form-data; boundary=xyz";
    let reply = client.send("POST", &format!("{CLASSIFY}?logits=true"), &[form], &body);
    let lines: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines.iter().map(|line| line["image"].as_str().unwrap()).collect::<Vec<_>>(),
        ["a.jpg", "b.jpg", "c.jpg"]
    );
    assert_eq!(numbers(&lines[0]["logits"]), wanted[0]);
    assert!(lines[1]["error"].as_str().unwrap().contains("expected JPEG"), "{}", lines[1]);
    assert_eq!(numbers(&lines[2]["logits"]), wanted[1]);
    let all_broken =
        client.send("POST", CLASSIFY, &[form], &[part("b.jpg", b"none"), b"--xyz--\r\n".to_vec()].concat());
    assert_eq!(all_broken.status, 400);
    server.stop();
}

/// Whatever is computed beside it, a picture has the answer that it has alone: a thread for each, as eight
/// clients have them of an engine of two threads.
#[test]
fn neighbours_change_nothing() {
    neighbours_of(2, 8);
}

/// The same in batches, which two clients have of an engine of four threads.
#[test]
fn neighbours_in_a_batch_change_nothing() {
    neighbours_of(4, 2);
}

fn neighbours_of(threads: usize, clients: usize) {
    let mut options = options();
    (options.max_batch, options.threads) = (5, threads);
    // Time enough for a second picture that is on its way.
    options.max_delay = Duration::from_millis(200);
    let pool = Pool::new(threads);
    let shared = pool.clone();
    let model = ModelSource::new("net", move || Ok((classifier(1, &shared), Vec::new())));
    let server = Server::start(options, vec![model]).unwrap();
    let address = server.http().unwrap();
    let classifier = classifier(1, &pool);
    let pictures = pictures();
    let wanted: Vec<Vec<f32>> = pictures.iter().map(|picture| logits(&classifier, picture)).collect();
    thread::scope(|scope| {
        for first in 0..clients {
            let (pictures, wanted) = (&pictures, &wanted);
            scope.spawn(move || {
                let mut client = Client::new(address);
                for turn in 0..25 {
                    let index = (first + turn) % pictures.len();
                    let answer = client.post(&format!("{CLASSIFY}?logits=true"), &pictures[index]).json();
                    assert_eq!(numbers(&answer["logits"]), wanted[index]);
                }
            });
        }
    });
    let metrics = Client::of(&server).get("/metrics");
    let count = |name: &str| -> f64 {
        let line = metrics.text().lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // The first answer, too.
    let all = (25 * clients + 1) as f64;
    assert_eq!(count("inception_pictures_total{model=\"net\",outcome=\"answered\"}"), all);
    let (runs, at_once) = (count("inception_batch_pictures_count"), count("inception_batch_pictures_sum"));
    assert!(runs <= all && at_once > runs, "{runs} runs of {at_once}: no two at the same time");
    server.stop();
}

#[test]
fn what_a_server_says_of_itself() {
    let models = vec![source("net", 1), source("other.net-2", 2)];
    let server = Server::start(options(), models).unwrap();
    let mut client = Client::of(&server);
    for path in
        ["/v2/health/live", "/v2/health/ready", "/v2/models/net/ready", "/v2/models/NET/versions/1/ready"]
    {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    assert_eq!(client.get("/v2/health/live").json(), json!({ "live": true }));
    assert_eq!(client.get("/v2/health/ready").json(), json!({ "ready": true }));
    assert_eq!(client.get("/v2/models/net/ready").json(), json!({ "name": "net", "ready": true }));
    assert_eq!(client.get("/v1/models").json(), json!({ "models": ["net", "other.net-2"] }));
    assert_eq!(client.get("/v1/models/net").json(), json!({ "name": "net", "ready": true }));
    assert_eq!(client.get("/v2").json()["name"], "inception");
    let metadata = client.get("/v2/models/other.net-2").json();
    assert_eq!(
        metadata["inputs"],
        json!([{ "name": "input", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE] }])
    );
    assert_eq!(metadata["outputs"], json!([{ "name": "logits", "datatype": "FP32", "shape": [-1, 1000] }]));
    let config = client.get("/v2/models/net/config").json();
    assert_eq!(
        (&config["max_batch_size"], &config["input"][0]["dims"]),
        (&json!(32), &json!([3, SIDE, SIDE]))
    );
    assert_eq!(client.post("/v2/repository/index", b"").json()[1]["state"], "READY");
    let page = client.get("/");
    assert!(page.headers["content-type"].starts_with("text/html"));
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert!(client.get("/metrics").text().contains("inception_ready 1"));
    server.stop();
}

#[test]
fn what_cannot_be_answered_is_said_by_the_protocol() {
    let mut options = options();
    options.limits.body_bytes = 100_000;
    options.limits.pictures = 4;
    options.limits.pixels = 200_000;
    let server = server(options);
    let mut client = Client::of(&server);
    let one = |shape: Value, data: Value| {
        json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": shape, "data": data }] })
            .to_string()
    };
    let wrong = [
        ("GET", "/nothing", "", 404, "nothing at this address"),
        ("GET", "/../../etc/passwd", "", 404, "nothing at this address"),
        ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", "", 404, "no model"),
        ("GET", "/v2/models/none", "", 404, "no model"),
        ("GET", "/v2/models/net/versions/2", "", 404, "no model"),
        ("POST", "/v1/models/none/classify", "", 404, "no model"),
        ("GET", "/v1/models/net/classify/more", "", 404, "nothing at this address"),
        ("POST", "/v2/repository/models/net/unload", "", 404, "nothing at this address"),
        ("GET", CLASSIFY, "", 405, "another method"),
        ("GET", INFER, "", 405, "another method"),
        ("DELETE", "/v2/models/net", "", 405, "another method"),
        ("POST", CLASSIFY, "", 400, "the file is empty"),
        ("POST", CLASSIFY, "none", 400, "expected JPEG"),
        ("POST", "/v1/models/net/classify?k=1", "", 400, "top_k=NUMBER"),
        ("POST", "/v1/models/net/classify?top_k=-1", "", 400, "top_k=NUMBER"),
        ("POST", INFER, "{", 400, "no JSON of the protocol"),
        ("POST", INFER, &one(json!([1, 3, 2, 2]), json!([0])), 400, "[batch, 3, 64, 64], not [1, 3, 2, 2]"),
        ("POST", INFER, &one(json!([1, 3, SIDE, SIDE]), json!([0])), 400, "12288 numbers, not 1"),
        ("POST", INFER, &one(json!([5, 3, SIDE, SIDE]), json!([0])), 413, "more than 4 pictures"),
        ("POST", "/v2/repository/models/net/load", "", 403, "only where keys are on"),
    ];
    for (method, path, body, status, text) in wrong {
        let reply = client.send(method, path, &[], body.as_bytes());
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(reply.status == status && error.contains(text), "{method} {path}: {} {error}", reply.status);
    }
    for (method, path, allowed) in [("GET", CLASSIFY, "POST"), ("POST", "/metrics", "GET, HEAD")] {
        let reply = client.send(method, path, &[], b"");
        assert_eq!((reply.status, &*reply.headers["allow"]), (405, allowed));
    }
    // 500 x 375 pixels are allowed, 100,000 bytes are not.
    let large = vec![0; 100_001];
    assert_eq!(client.post(CLASSIFY, &large).status, 413);
    let mut client = Client::of(&server);
    client
        .write(b"POST /v1/models/net/classify HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    // The server answers and closes at some point.
    for _ in 0..40 {
        if client.write(&[b"1000\r\n", &[0; 4096][..], b"\r\n"].concat()).is_err() {
            break;
        }
    }
    let _ = client.write(b"0\r\n\r\n");
    assert_eq!(client.read().unwrap().status, 413);
    let mut client = Client::of(&server);
    assert_eq!(client.send("POST", INFER, &["content-encoding: gzip"], b"").status, 415);
    assert_eq!(client.send("POST", CLASSIFY, &["content-type: multipart/form-data"], b"").status, 415);
    assert_eq!(client.send("POST", INFER, &["inference-header-content-length: x"], b"").status, 400);
    server.stop();
}

#[test]
fn who_has_no_key_is_told_nothing() {
    let mut options = options();
    options.keys = Some(keys());
    let server = server(options);
    let mut client = Client::of(&server);
    for path in ["/", "/metrics", "/v2", "/v2/models/net", "/v1/models", "/nothing", "/v2/models/net/ready"] {
        let reply = client.get(path);
        assert_eq!(reply.status, 401, "{path}");
        assert!(reply.headers["www-authenticate"].starts_with("Basic"));
    }
    let picture = &pictures()[0];
    let with = |key: &str| format!("authorization: Bearer {key}");
    assert_eq!(client.send("POST", CLASSIFY, &[&with("another-key-of-them")], picture).status, 401);
    assert_eq!(client.send("POST", CLASSIFY, &[&with(KEY)], picture).status, 200);
    let basic = format!("authorization: Basic {}", STANDARD.encode(format!("me:{KEY}")));
    assert_eq!(client.send("GET", "/", &[&basic], b"").status, 200);
    assert_eq!(client.send("POST", "/v2/repository/models/net/load", &[&basic], b"").status, 200);
    // Probes are told whether it is there.
    assert_eq!(client.get("/v2/health/ready").status, 200);
    server.stop();
}

/// A network that changes while it answers: every answer is one of the two.
#[test]
fn a_model_is_replaced_without_losing_a_request() {
    let seed = Arc::new(AtomicU64::new(1));
    let (pool, current) = (Pool::new(2), seed.clone());
    let source = ModelSource::new("net", move || match current.load(Ordering::Relaxed) {
        0 => Err("secret/file.safetensors is broken".into()),
        seed => Ok((classifier(seed, &pool), vec![format!("seed {seed}")])),
    });
    let server = Server::start(options(), vec![source]).unwrap();
    let address = server.http().unwrap();
    let picture = &pictures()[0];
    let wanted = [1, 2].map(|seed| logits(&classifier(seed, &Pool::new(2)), picture));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(address);
                    let mut seen = [0, 0];
                    while seen[1] < 20 {
                        let answer = client.post(&format!("{CLASSIFY}?logits=true"), picture).json();
                        let found = numbers(&answer["logits"]);
                        let which =
                            wanted.iter().position(|logits| *logits == found).expect("one of the two");
                        assert_eq!(answer["warnings"], json!([format!("seed {}", which + 1)]));
                        seen[which] += 1;
                    }
                    seen
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(100));
        seed.store(2, Ordering::Relaxed);
        assert!(server.reload().iter().all(|reloaded| reloaded.result.is_ok()));
        assert!(clients.into_iter().map(|client| client.join().unwrap()).any(|seen| seen[0] > 0));
    });
    // One that is broken changes nothing.
    seed.store(0, Ordering::Relaxed);
    assert!(server.reload()[0].result.is_err());
    let answer = Client::of(&server).post(&format!("{CLASSIFY}?logits=true"), picture).json();
    assert_eq!(numbers(&answer["logits"]), wanted[1]);
    server.stop();
}

#[test]
fn a_server_that_cannot_be_is_an_error() {
    let start = |options: ServeOptions, models: Vec<ModelSource>| {
        Server::start(options, models).map(drop).unwrap_err()
    };
    assert!(matches!(start(options(), Vec::new()), Error::Nothing { .. }));
    assert!(matches!(start(ServeOptions::default(), vec![source("net", 1)]), Error::Nothing { .. }));
    for name in ["", "a/b", "..", "a b", "ü"] {
        assert!(matches!(start(options(), vec![source(name, 1)]), Error::Name { .. }), "{name}");
    }
    assert!(matches!(start(options(), vec![source("net", 1), source("NET", 1)]), Error::Twice { .. }));
    let broken = ModelSource::new("net", || Err("no such file".into()));
    assert!(matches!(start(options(), vec![broken]), Error::Model { .. }));
    let server = server(options());
    let mut taken = options();
    taken.http = server.http();
    assert!(matches!(start(taken, vec![source("net", 1)]), Error::Listen { .. }));
    server.stop();
}
