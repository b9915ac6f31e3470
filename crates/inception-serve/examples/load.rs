//! A load generator: clients that post the same pictures again and again, each waiting for its answer, or all
//! of them together at a given rate. Prints one JSON object.
//!
//! ```console
//! $ load 127.0.0.1:8080 /v1/models/GoogLeNet/classify --clients 8 --seconds 10 picture.jpg...
//! ```
//!
//! With `--rate` requests a second, each is due at its own time, whether the ones before it were answered or
//! not, and its latency counts from then, so that a server that stalls is not spared. What is sent is plain
//! HTTP/1.1 on kept connections, the same for every server; `--form` before the pictures puts each in a form,
//! for servers that take no other bodies. `--all` adds the latency of each answer, so that runs can be put
//! together.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

struct Load {
    address: String,
    requests: Vec<Vec<u8>>,
    clients: usize,
    warm_up: f64,
    seconds: f64,
    rate: f64,
    all: bool,
}

impl Load {
    fn parse() -> Result<Self> {
        let mut arguments = std::env::args().skip(1);
        let mut next = || arguments.next();
        let address = next().ok_or("an address is wanted")?;
        let path = next().ok_or("a path is wanted")?;
        let mut form = false;
        let requests = Vec::new();
        let mut load =
            Self { address, requests, clients: 1, warm_up: 1.0, seconds: 5.0, rate: 0.0, all: false };
        while let Some(argument) = next() {
            let mut value = || next().ok_or_else(|| format!("{argument} has no value"));
            match argument.as_str() {
                "--clients" => load.clients = value()?.parse()?,
                "--warm-up" => load.warm_up = value()?.parse()?,
                "--seconds" => load.seconds = value()?.parse()?,
                "--rate" => load.rate = value()?.parse()?,
                "--form" => form = true,
                "--all" => load.all = true,
                file => {
                    let mut picture = std::fs::read(file)?;
                    let mut kind = "image/jpeg";
                    if form {
                        let head = "--xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jpg\"\r\n\r\n";
                        picture = [head.as_bytes(), &picture, b"\r\n--xyz--\r\n"].concat();
                        kind = "multipart/form-data; boundary=xyz";
                    }
                    let head = format!(
                        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                        load.address,
                        picture.len()
                    );
                    load.requests.push([head.as_bytes(), &picture].concat());
                }
            }
        }
        if load.requests.is_empty() { Err("a picture is wanted".into()) } else { Ok(load) }
    }
}

/// Reads an answer with a length, or in chunks; its status.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<u16> {
    buffer.clear();
    let mut part = [0; 16 << 10];
    loop {
        let count = stream.read(&mut part).await?;
        if count == 0 {
            return Err("the connection ended".into());
        }
        buffer.extend_from_slice(&part[..count]);
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end])?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let whole = match length {
            Some(length) => buffer.len() >= end + 4 + length.trim().parse::<usize>()?,
            None => buffer.ends_with(b"\r\n0\r\n\r\n"),
        };
        if whole {
            return Ok(head.get(9..12).unwrap_or_default().parse()?);
        }
    }
}

/// What one client saw: latencies in seconds of answers, and how many were refused or failed.
#[derive(Default)]
struct Seen {
    latencies: Vec<f64>,
    refused: usize,
    failed: usize,
}

async fn client(load: Arc<Load>, number: usize, turn: Arc<AtomicUsize>, start: Instant) -> Seen {
    let mut seen = Seen::default();
    let (from, to) = (start + Duration::from_secs_f64(load.warm_up), load.warm_up + load.seconds);
    let to = start + Duration::from_secs_f64(to);
    let (mut stream, mut buffer) = (None, Vec::new());
    for own in number.. {
        let mut due = Instant::now();
        if load.rate > 0.0 {
            due = start + Duration::from_secs_f64(turn.fetch_add(1, Ordering::Relaxed) as f64 / load.rate);
            sleep_until(due.into()).await;
        }
        if due >= to {
            break;
        }
        let request = &load.requests[own % load.requests.len()];
        let once = async {
            let mut open = match stream.take() {
                Some(open) => open,
                None => {
                    let open = TcpStream::connect(&load.address).await?;
                    open.set_nodelay(true)?;
                    open
                }
            };
            open.write_all(request).await?;
            let status = read(&mut open, &mut buffer).await?;
            Ok::<_, Box<dyn Error + Send + Sync>>((status, open))
        };
        let answer = timeout(Duration::from_secs(60), once).await.unwrap_or_else(|late| Err(late.into()));
        let end = Instant::now();
        // By its end, so that as many count at the start of the time as are cut off at its end.
        let counts = end >= from && end <= to;
        match answer {
            Ok((status, open)) => {
                stream = Some(open);
                match status {
                    200 if counts => seen.latencies.push((end - due).as_secs_f64()),
                    200 => {}
                    503 => seen.refused += usize::from(counts),
                    _ => seen.failed += usize::from(counts),
                }
            }
            Err(error) => {
                eprintln!("{error}");
                seen.failed += usize::from(counts);
                sleep_until((Instant::now() + Duration::from_millis(50)).into()).await;
            }
        }
    }
    seen
}

// One thread: on two cores a load generator of two would be half of what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let load = Arc::new(Load::parse()?);
    let turn = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let clients: Vec<_> = (0..load.clients)
        .map(|number| tokio::spawn(client(load.clone(), number, turn.clone(), start)))
        .collect();
    let mut all = Seen::default();
    for client in clients {
        let seen = client.await?;
        all.latencies.extend(seen.latencies);
        all.refused += seen.refused;
        all.failed += seen.failed;
    }
    all.latencies.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        let last = all.latencies.len().saturating_sub(1) as f64;
        all.latencies.get((last * share).round() as usize).map_or(0.0, |seconds| seconds * 1e3)
    };
    println!(
        "{}",
        serde_json::json!({
            "clients": load.clients,
            "rate": load.rate,
            "seconds": load.seconds,
            "answers": all.latencies.len(),
            "refused": all.refused,
            "failed": all.failed,
            "pictures_per_second": all.latencies.len() as f64 / load.seconds,
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "max_ms": quantile(1.0),
            "latencies_ms": load.all.then(|| all.latencies.iter().map(|seconds| seconds * 1e3).collect::<Vec<_>>()),
        })
    );
    Ok(())
}
