//! The playground on a terminal: keys, and the screen.

use std::io;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::nodes::Process;
use super::plan::Step;
use super::{Playground, screen};
use crate::exit::Failure;

/// The screen is drawn so often.
const FRAME: Duration = Duration::from_millis(100);
/// How long it is shown that a key could not be followed.
const NOTE: Duration = Duration::from_secs(4);

/// A screen needs a terminal.
///
/// # Errors
/// [`Failure::Usage`] where there is none.
pub(super) fn required() -> Result<(), Failure> {
    if crate::terminal::is_there() {
        return Ok(());
    }
    Err(Failure::Usage(
        "the playground needs a terminal; without one, say what is to be done: --script 'kill 2; wait 3; \
         start 2; wait 5; quit'"
            .to_owned(),
    ))
}

/// Shows it, and does what keys say, until it is over. The terminal is given back in any case.
pub(super) fn run(playground: &mut Playground) -> Result<(), Failure> {
    let unusable =
        |error: io::Error| Failure::Refused(format!("the terminal cannot be used: {error}"));
    let mut terminal = ratatui::try_init().map_err(unusable)?;
    let ended = Screen { chosen: 0, note: None }.run(playground, &mut terminal);
    ratatui::restore();
    ended.map_err(unusable)
}

struct Screen {
    chosen: usize,
    note: Option<(Instant, String)>,
}

/// What a key means.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Meant {
    Choose(usize),
    Do(Step),
    End,
    Nothing,
}

impl Screen {
    fn run(
        mut self,
        playground: &mut Playground,
        terminal: &mut DefaultTerminal,
    ) -> io::Result<()> {
        while !playground.is_over() {
            playground.tend();
            self.note = self.note.filter(|(since, _)| since.elapsed() < NOTE);
            let note = self.note.as_ref().map_or("", |(_, note)| note.as_str());
            terminal.draw(|frame| screen::draw(frame, &playground.board, self.chosen, note))?;
            if !event::poll(FRAME)? {
                continue;
            }
            let Event::Key(key) = event::read()? else { continue };
            let count = playground.nodes.len();
            match meant(key, self.chosen, count, playground.nodes[self.chosen].process) {
                Meant::End => return Ok(()),
                Meant::Choose(at) => self.chosen = at,
                Meant::Do(step) => {
                    let failed = playground.step(step).err();
                    self.note = failed.map(|problem| (Instant::now(), problem));
                }
                Meant::Nothing => {}
            }
        }
        Ok(())
    }
}

fn meant(key: KeyEvent, chosen: usize, count: usize, process: Process) -> Meant {
    if key.kind == KeyEventKind::Release {
        return Meant::Nothing;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => Meant::End,
        KeyCode::Char('q') | KeyCode::Esc => Meant::End,
        KeyCode::Char('k') => Meant::Do(Step::Kill(chosen)),
        KeyCode::Char('s' | 'r') => Meant::Do(Step::Start(chosen)),
        KeyCode::Char('t') => Meant::Do(Step::Stop(chosen)),
        KeyCode::Char('f') if process == Process::Frozen => Meant::Do(Step::Thaw(chosen)),
        KeyCode::Char('f') => Meant::Do(Step::Freeze(chosen, None)),
        KeyCode::Up | KeyCode::Left => Meant::Choose((chosen + count - 1) % count),
        KeyCode::Down | KeyCode::Right | KeyCode::Tab => Meant::Choose((chosen + 1) % count),
        KeyCode::Char(digit) => {
            let number = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
            let at = number.filter(|number| (1..=count).contains(number));
            at.map_or(Meant::Nothing, |number| Meant::Choose(number - 1))
        }
        _ => Meant::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(code: KeyCode, process: Process) -> Meant {
        meant(KeyEvent::new(code, KeyModifiers::NONE), 2, 3, process)
    }

    #[test]
    fn keys_choose_a_node_and_act_on_it() {
        let running = Process::Running;
        assert_eq!(pressed(KeyCode::Char('1'), running), Meant::Choose(0));
        assert_eq!(pressed(KeyCode::Char('4'), running), Meant::Nothing);
        assert_eq!(pressed(KeyCode::Char('0'), running), Meant::Nothing);
        assert_eq!(pressed(KeyCode::Down, running), Meant::Choose(0));
        assert_eq!(pressed(KeyCode::Up, running), Meant::Choose(1));
        assert_eq!(pressed(KeyCode::Char('k'), running), Meant::Do(Step::Kill(2)));
        assert_eq!(pressed(KeyCode::Char('f'), running), Meant::Do(Step::Freeze(2, None)));
        assert_eq!(pressed(KeyCode::Char('f'), Process::Frozen), Meant::Do(Step::Thaw(2)));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(meant(control_c, 0, 3, running), Meant::End);
        assert_eq!(pressed(KeyCode::Char('c'), running), Meant::Nothing);
    }
}
