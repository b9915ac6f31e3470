//! Clients that are slow, leave, send nonsense, or are too many; and the end of a server. The full numbers of
//! the project's promises are run by `bench/serve/faults.py`.

#![allow(clippy::unwrap_used, missing_docs)] // A test may panic.

mod common;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, Random, SIDE, options, picture_path, pictures, server};
use serde_json::json;

const CLASSIFY: &str = "/v1/models/net/classify";

fn works(client: &mut Client, picture: &[u8]) {
    assert_eq!(client.post(CLASSIFY, picture).status, 200);
}

#[test]
fn slow_half_and_leaving_clients_do_not_hold_it_up() {
    let mut options = options();
    options.limits.idle = Duration::from_secs(1);
    options.limits.request = Duration::from_secs(2);
    options.limits.connections = 50;
    let server = server(options);
    let address = server.http().unwrap();
    let picture = &pictures()[0];
    let head = format!("POST {CLASSIFY} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", picture.len());
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        // A byte of the head, and a byte of the body, at a time. They are cut off, or told that they are
        // late.
        for text in [head.clone().into_bytes(), [head.as_bytes(), picture].concat()] {
            let stopped = &stopped;
            scope.spawn(move || {
                let mut client = Client::new(address);
                let start = Instant::now();
                let body_from = text.len().saturating_sub(picture.len());
                let first = if text.len() > picture.len() { body_from } else { 1 };
                let sent = client.write(&text[..first]).and_then(|()| {
                    for byte in &text[first..] {
                        thread::sleep(Duration::from_millis(200));
                        client.write(&[*byte])?;
                        if start.elapsed() > Duration::from_secs(30) {
                            break;
                        }
                    }
                    Ok(())
                });
                assert!(sent.is_err() || client.read().map_or(true, |reply| reply.status == 408));
                assert!(start.elapsed() < Duration::from_secs(30), "it was served for half a minute");
                stopped.store(true, Ordering::Relaxed);
            });
        }
        // Half a request, and no more; and those that leave before their answer.
        let mut halves: Vec<Client> = (0..20).map(|_| Client::new(address)).collect();
        for half in &mut halves {
            half.write(&[head.as_bytes(), &picture[..picture.len() / 2]].concat()).unwrap();
        }
        for _ in 0..20 {
            Client::new(address).write(&[head.as_bytes(), picture].concat()).unwrap();
        }
        let mut client = Client::new(address);
        for _ in 0..20 {
            works(&mut client, picture);
        }
        // The halves are told that they are late or cut off, or find their connection closed.
        for mut half in halves {
            assert!(half.read().map_or(true, |reply| matches!(reply.status, 400 | 408)));
        }
    });
    assert!(stopped.load(Ordering::Relaxed));
    // Connections that were idle are closed, and their places are free.
    let mut idle: Vec<Client> = (0..50).map(|_| Client::new(address)).collect();
    assert!(
        idle.iter_mut()
            .all(|client| client.read().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof))
    );
    works(&mut Client::new(address), picture);
    server.stop();
}

/// A connection on which nothing moves is closed, but not while its answer is on its way.
#[test]
fn who_waits_for_an_answer_is_not_idle() {
    let mut options = options();
    options.limits.idle = Duration::from_millis(200);
    (options.decoders, options.queue) = (1, 512);
    let server = server(options);
    let address = server.http().unwrap();
    let picture = &pictures()[0];
    let part = b"--xyz\r\ncontent-disposition: form-data; name=\"f\"\r\n\r\n";
    let mut body = [&part[..], picture, b"\r\n"].concat().repeat(32);
    body.extend_from_slice(b"--xyz--\r\n");
    let longest = thread::scope(|scope| {
        let body = &body;
        let clients = (0..16).map(|_| {
            scope.spawn(move || {
                let start = Instant::now();
                let form = "content-type: multipart/form-data; boundary=xyz";
                let reply = Client::new(address).send("POST", CLASSIFY, &[form], body);
                assert_eq!((reply.status, reply.text().lines().count()), (200, 32));
                start.elapsed()
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).max().unwrap()
    });
    // 512 pictures by one decoder.
    assert!(longest > Duration::from_millis(400), "nobody waited: {longest:?}");
    let mut idle = Client::new(address);
    assert!(idle.read().is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof));
    server.stop();
}

#[test]
fn many_idle_connections_cost_nobody_an_answer() {
    let server = server(options());
    let address = server.http().unwrap();
    // Two descriptors each, in this process; as many as it may have.
    let most = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap().0;
    let count = 2_000.min(usize::try_from(most / 2 - 100).unwrap());
    let mut idle: Vec<Client> = (0..count).map(|_| Client::new(address)).collect();
    works(&mut Client::new(address), &pictures()[0]);
    // They are all served, if they ask.
    for client in idle.iter_mut().step_by(97) {
        assert_eq!(client.get("/v2/health/live").status, 200);
    }
    server.stop();
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let mut options = options();
    (options.queue, options.limits.pictures, options.decoders) = (2, 2, 1);
    let server = server(options);
    let address = server.http().unwrap();
    let picture = &pictures()[0];
    let counts = [const { AtomicUsize::new(0) }; 2];
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = Client::new(address);
                for _ in 0..20 {
                    let reply = client.post(CLASSIFY, picture);
                    if reply.status == 503 {
                        let seconds: u64 = reply.headers["retry-after"].parse().unwrap();
                        assert!((1..=60).contains(&seconds));
                        assert!(reply.json()["error"].as_str().unwrap().contains("too many requests"));
                        counts[1].fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(reply.status, 200);
                        counts[0].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let [answered, refused] = counts.map(AtomicUsize::into_inner);
    assert_eq!(answered + refused, 320);
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    works(&mut Client::new(address), picture);
    server.stop();
}

/// Small pictures of every format, damaged in ten thousand ways.
#[test]
fn damaged_pictures_are_answered() {
    let server = server(options());
    let address = server.http().unwrap();
    let folder = picture_path("../goldens/preprocess");
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if inception::data::is_image(&path) && path.metadata().unwrap().len() < 20_000 {
                seeds.push(std::fs::read(path).unwrap());
            }
        }
    }
    seeds.sort();
    assert!(seeds.len() > 20, "{} pictures", seeds.len());
    let counts = [const { AtomicUsize::new(0) }; 2];
    thread::scope(|scope| {
        for part in 0..4 {
            let (seeds, counts) = (&seeds, &counts);
            scope.spawn(move || {
                let (mut client, mut random) = (Client::new(address), Random(1 + part));
                for turn in 0..2_500 {
                    let damaged = random.damage(&seeds[turn % seeds.len()]);
                    match client.post(CLASSIFY, &damaged).status {
                        200 => counts[0].fetch_add(1, Ordering::Relaxed),
                        400 => counts[1].fetch_add(1, Ordering::Relaxed),
                        // 500 would be a decoder that panicked.
                        status => panic!("{status}, part {part}, turn {turn}"),
                    };
                }
            });
        }
    });
    let [answered, refused] = counts.map(AtomicUsize::into_inner);
    assert_eq!(answered + refused, 10_000);
    assert!(answered > 100 && refused > 1000, "{answered} answered, {refused} refused");
    server.stop();
}

#[test]
fn damaged_messages_are_answered() {
    let server = server(options());
    let address = server.http().unwrap();
    let image = vec![0.5f32; (3 * SIDE * SIDE) as usize];
    let numbers = json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE], "data": image }] });
    let strings = json!({ "id": "1", "inputs": [{ "name": "input", "datatype": "BYTES", "shape": [2], "data": ["YWJj", ""] }],
                          "outputs": [{ "name": "logits", "parameters": { "classification": 3 } }] });
    let binary = json!({ "inputs": [{ "name": "input", "datatype": "BYTES", "shape": [1], "parameters": { "binary_data_size": 7 } }] });
    let texts = [numbers.to_string(), strings.to_string(), binary.to_string()];
    let header = format!("inference-header-content-length: {}", texts[2].len());
    thread::scope(|scope| {
        for part in 0..4 {
            let (texts, header) = (&texts, &header);
            scope.spawn(move || {
                let (mut client, mut random) = (Client::new(address), Random(100 + part));
                for turn in 0..2_500 {
                    // The large one now and then.
                    let which = if turn % 50 == 0 { 0 } else { 1 + turn % 2 };
                    let mut body = texts[which].clone().into_bytes();
                    if which == 2 {
                        body.extend_from_slice(b"\x03\0\0\0abc");
                    }
                    let headers: &[&str] = if which == 2 { &[header] } else { &[] };
                    let reply = client.send("POST", "/v2/models/net/infer", headers, &random.damage(&body));
                    assert!(matches!(reply.status, 200 | 400 | 413), "{}: {}", reply.status, reply.text());
                }
            });
        }
        scope.spawn(|| {
            // What may not even be HTTP: an error of the protocol, or the end of the connection.
            let mut random = Random(7);
            let request = format!("POST {CLASSIFY}?top_k=5 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-type: a/b\r\n\r\nabc");
            for _ in 0..500 {
                let mut client = Client::new(address);
                if client.write(&random.damage(request.as_bytes())).is_err() {
                    continue;
                }
                let _ = client.close_writing();
                if let Ok(reply) = client.read() {
                    assert!((400..=505).contains(&reply.status) && reply.status != 500, "{}", reply.status);
                }
            }
        });
    });
    works(&mut Client::new(address), &pictures()[0]);
    server.stop();
}

/// A server that is stopped under load answers all that was sent.
#[test]
fn stopping_loses_no_request() {
    let mut options = options();
    options.lame_duck = Duration::from_millis(500);
    let server = server(options);
    let address = server.http().unwrap();
    let picture = &pictures()[0];
    let (answered, told) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Until nobody listens any more.
                while let Ok(mut client) = Client::connect(address) {
                    loop {
                        match client.try_send("POST", CLASSIFY, &[], picture) {
                            Ok(reply) => {
                                assert_eq!(reply.status, 200);
                                answered.fetch_add(1, Ordering::Relaxed);
                                if reply.headers.get("connection").is_some_and(|value| value == "close") {
                                    told.fetch_add(1, Ordering::Relaxed);
                                    break;
                                }
                            }
                            // A connection that the system had taken, but nobody accepted.
                            Err(error) => {
                                assert!(Client::connect(address).is_err(), "a request was lost: {error}");
                                return;
                            }
                        }
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        server.stop();
    });
    assert!(answered.into_inner() > 8 && told.into_inner() >= 8);
}
