//! Milliseconds an image from the bytes of a JPEG to the input of a network, as `throughput.py` beside this
//! compares them with OpenCV, Pillow and torchvision.
//!
//! ```text
//! throughput cv2-bilinear|pil-bilinear|pil-bicubic THREADS SECONDS FILE...
//! ```
#![allow(clippy::unwrap_used)] // A tool for developers; it stops where something is wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use inception_data::{Preprocessing, Resampler, decode};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [resampler, threads, seconds, files @ ..] = &arguments[..] else {
        panic!("throughput RESAMPLER THREADS SECONDS FILE...")
    };
    let preprocessing = match &resampler[..] {
        "cv2-bilinear" => Preprocessing::paddleclas(320, 299),
        "pil-bilinear" => Preprocessing::torchvision(320, 299),
        "pil-bicubic" => {
            Preprocessing { resampler: Resampler::PilBicubic, ..Preprocessing::torchvision(320, 299) }
        }
        other => panic!("{other}"),
    };
    let threads: usize = threads.parse().unwrap();
    let time = Duration::from_secs_f64(seconds.parse().unwrap());
    let files: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let next = AtomicUsize::new(0);
    let work = |until: Instant| {
        let mut out = vec![0.0; preprocessing.output_len()];
        let mut count = 0;
        while Instant::now() < until {
            let file = &files[next.fetch_add(1, Ordering::Relaxed) % files.len()];
            preprocessing.apply(&decode(file).unwrap(), &mut out).unwrap();
            count += 1;
        }
        count
    };
    // To warm up.
    work(Instant::now() + time / 5);
    let start = Instant::now();
    let count: usize = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(start + time))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    });
    println!("{:.4}", start.elapsed().as_secs_f64() * 1000.0 / count as f64);
}
