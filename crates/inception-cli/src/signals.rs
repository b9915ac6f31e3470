//! Ctrl-C, and other signals to end.

use std::io;

/// Calls `act` each time that the process is asked to end, on a thread of its own.
#[cfg(unix)]
pub fn on_signal(mut act: impl FnMut() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let wait = move || signals.forever().for_each(|_| act());
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// Elsewhere the system ends the process itself.
#[cfg(not(unix))]
pub fn on_signal(_: impl FnMut() + Send + 'static) -> io::Result<()> {
    Ok(())
}
