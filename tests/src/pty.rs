//! A terminal, with a program in it: what it shows is read, and keys are typed.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait::eventually;

/// How long anything may take that is waited for.
const LONG: Duration = Duration::from_secs(60);

/// A program in a terminal. Dropping it kills the program.
#[derive(Debug)]
pub struct Pty {
    size: (u16, u16),
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Pty {
    /// Starts a program in a terminal of so many columns and lines.
    ///
    /// # Panics
    /// If there is no terminal to be had, or the program cannot be started.
    #[must_use]
    pub fn start(mut command: Command, (columns, lines): (u16, u16)) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("a terminal");
        let path = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("text");
        let size = Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        // It is the program's, and does not become the one that controls these tests.
        let flags = i32::try_from(OFlags::NOCTTY.bits()).expect("a flag");
        let mut end = OpenOptions::new();
        end.read(true).write(true).custom_flags(flags);
        let end = || end.open(&path).expect("a terminal");
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm-256color");
        let child = command.spawn().expect("the program starts");
        // With the command goes our hold on its end of the terminal: reading ends with the program.
        drop(command);
        let keys = File::from(ours);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (keys.try_clone().expect("a second handle"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut part) {
                sink.lock().expect("nobody panics with it").extend_from_slice(&part[..read]);
            }
        });
        Self { size: (columns, lines), keys, shown, child }
    }

    /// Types.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn send(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// All that it was sent so far, with what moves the cursor and sets colours.
    ///
    /// # Panics
    /// If the reader has.
    #[must_use]
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("the reader is well")).into_owned()
    }

    /// Waits until it has shown this, behind the first so many bytes; where it ends.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until(&self, from: usize, text: &str) -> usize {
        eventually(&format!("the terminal shows {text:?}"), LONG, || {
            let shown = self.shown();
            let found = shown.get(from..).and_then(|shown| shown.find(text));
            found.map(|at| from + at + text.len()).ok_or(shown)
        })
    }

    /// The screen, line by line, as it is now.
    ///
    /// # Panics
    /// If the reader has.
    #[must_use]
    pub fn screen(&self) -> String {
        let (columns, lines) = self.size;
        let some = |size| NonZero::new(size).expect("a terminal has columns and lines");
        let mut parser = vt100::Parser::new(some(lines), some(columns), 0);
        parser.process(&self.shown.lock().expect("the reader is well"));
        parser.screen().contents()
    }

    /// Waits until this is on the screen.
    ///
    /// # Panics
    /// If it is not in time.
    #[track_caller]
    pub fn until_screen(&self, text: &str) {
        eventually(&format!("the screen shows {text:?}"), LONG, || {
            let screen = self.screen();
            if screen.contains(text) { Ok(()) } else { Err(screen) }
        });
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    /// If it does not end in time.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        eventually("the program ends", LONG, || {
            self.child.try_wait().expect("wait").ok_or_else(|| "it runs".to_owned())
        })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
