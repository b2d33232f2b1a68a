//! SIGTERM and SIGINT: the first ends in good order, the second at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Listens from now on: does `first` at the first signal; at the second `last`, and then ends the process, for
/// the reason in `killed`.
///
/// # Errors
/// [`Failure::Refused`] if the system does not let it.
pub(crate) fn listen(
    first: impl FnOnce() + Send + 'static,
    last: impl FnOnce() + Send + 'static,
    killed: &'static str,
) -> Result<(), Failure> {
    let on = |kind| {
        signal(kind).map_err(|error| Failure::Refused(format!("signals cannot be caught: {error}")))
    };
    let (mut terminate, mut interrupt) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        first();
        next(&mut terminate, &mut interrupt).await;
        last();
        let killed = Failure::Killed(killed.to_owned());
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
