//! `--scaling`: what more threads would make of the plan.

use std::io::{self, Write};
use std::time::Duration;

use inception::engine::{Scaling, Wait};

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Expected times on more threads, and the levels that lose most.
pub fn print(
    out: &mut impl Write,
    model: &str,
    batch: usize,
    barriers: usize,
    scaling: &[Scaling],
) -> io::Result<()> {
    let between = scaling.first().map_or(0.0, |one| us(one.time) / barriers.max(1) as f64);
    writeln!(out, "{model}, batch {batch}: {barriers} barriers, {between:.0} us of work between two")?;
    for Scaling { threads, time, share_of_ideal, waits } in scaling {
        let ms = time.as_secs_f64() * 1e3;
        writeln!(out, "  {threads:>2} threads: {ms:8.2} ms, {:3.0} % of ideal", share_of_ideal * 100.0)?;
        for Wait { nodes, tasks, work, lost } in waits.iter().take(3).filter(|wait| us(wait.lost) >= 1.0) {
            let nodes: String = nodes.join(" ").chars().take(48).collect();
            let (lost, work) = (us(*lost), us(*work));
            writeln!(out, "      {lost:6.0} us lost in {nodes}: {work:.0} us in {tasks} tasks")?;
        }
    }
    Ok(())
}
