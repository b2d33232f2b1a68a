//! SIGTERM and SIGINT: the first leaves in good order, the second stops at once.

use std::path::PathBuf;

use quorate_core::Command;
use quorate_io::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::exit::Failure;
use crate::presence::Presence;

/// Listens from now on.
///
/// # Errors
/// [`Failure::Refused`] if the system does not let it.
pub(super) fn listen(handle: Handle, data: PathBuf) -> Result<(), Failure> {
    let on = |kind| {
        signal(kind).map_err(|error| Failure::Refused(format!("signals cannot be caught: {error}")))
    };
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        info!("leaving in good order, as a signal asks; a second signal stops at once");
        tokio::spawn(async move { handle.command(Command::Stop).await });
        next(&mut terminate, &mut interrupt).await;
        warn!("stopping at once, as a second signal asks: the others will find this node away");
        Presence::remove(&data);
        let killed = Failure::Killed("a second signal cut the graceful stop short".to_owned());
        eprintln!("quorate: {killed}");
        std::process::exit(killed.code().into());
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
