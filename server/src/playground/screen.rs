//! The screen of the playground; it fits into 80 columns and 24 lines.

use std::time::Duration;

use quorate_core::configuration::CopyStatus;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row as Shown, Table};

use super::DATABASE;
use super::board::{Board, Row, State, Tally};
use super::nodes::Process;

/// Lines for what the writer has met, with their frame.
const FIGURES: u16 = 6;

/// Draws all of it; `chosen` is the node that keys are about.
pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, chosen: usize, note: &str) {
    let state = board.lock();
    let nodes = u16::try_from(state.rows.len()).unwrap_or(u16::MAX).saturating_add(3);
    let parts = [
        Constraint::Length(nodes),
        Constraint::Length(FIGURES),
        Constraint::Min(3),
        Constraint::Length(1),
    ];
    let [above, middle, below, keys] = Layout::vertical(parts).areas(frame.area());
    draw_nodes(frame, above, &state, chosen);
    draw_figures(frame, middle, &state);
    draw_events(frame, below, &state);
    let keys_shown = "1-9 choose  k kill  f freeze/go on  s start  t stop  q quit";
    let shown =
        if note.is_empty() { Line::from(keys_shown).dim() } else { Line::from(note).yellow() };
    frame.render_widget(Paragraph::new(shown), keys);
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, state: &State, chosen: usize) {
    let head = ["", "NODE", "PROCESS", "SERVER", "OWNER", "COPY", "LSN", ""];
    let widths = [
        Constraint::Length(2),
        Constraint::Length(5),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Min(6),
    ];
    let rows = state.rows.iter().enumerate().map(|(at, row)| shown(row, at == chosen));
    let table = Table::new(rows, widths)
        .header(Shown::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(format!(" quorate playground: the database {DATABASE} ")));
    frame.render_widget(table, area);
}

fn shown(row: &Row, chosen: bool) -> Shown<'static> {
    let color = match row.process {
        Process::Running => Color::Green,
        Process::Frozen | Process::Leaving => Color::Yellow,
        Process::Killed | Process::Stopped | Process::Ended => Color::Red,
    };
    let server = match row.online {
        Some(true) => "ONLINE",
        Some(false) => "AWAY",
        None => "-",
    };
    let copy = row.copy.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let whole = row.copy == Some(CopyStatus::Online);
    let cells = [
        Cell::from(if chosen { ">" } else { "" }),
        Cell::from(row.name.clone()),
        Cell::from(row.process.shown()).style(Style::new().fg(color)),
        Cell::from(server),
        Cell::from(if row.owns { "X" } else { "" }),
        Cell::from(copy).style(if whole { Style::new() } else { Style::new().fg(Color::Yellow) }),
        Cell::from(row.lsn.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string())),
        Cell::from(if row.used { "<- the writer" } else { "" }),
    ];
    let style = if chosen { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
    Shown::new(cells).style(style)
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let tally = &state.tally;
    let good = |number: u64| {
        let text = number.to_string();
        if number == 0 { text.green().bold() } else { text.red().bold() }
    };
    let waiting = state.waiting.iter().flatten().map(std::time::Instant::elapsed).max();
    let waiting = waiting.filter(|waiting| *waiting >= super::board::STALL);
    let waiting = waiting.map_or_else(String::new, |w| format!(", now waiting {}", span(w)));
    let refused = match tally.refused {
        0 => String::new(),
        refused => format!("   refused for want of a quorum {refused}"),
    };
    let lines = vec![
        Line::from(vec![
            Span::from(format!("written {}   errors ", tally.written)),
            good(tally.errors),
            Span::from(refused).yellow(),
        ]),
        Line::from(vec![
            Span::from(format!("read back {} of {}   lost ", tally.found, tally.expected)),
            good(tally.lost),
            Span::from("   done twice "),
            good(tally.twice),
        ]),
        Line::from(format!(
            "longest wait {}, last stall {}{waiting}",
            span(tally.longest),
            span(tally.last_stall)
        )),
        Line::from(error(tally)).red(),
    ];
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" the writer ")), area);
}

fn error(tally: &Tally) -> String {
    tally.last_error.as_ref().map_or_else(String::new, |error| format!("last error: {error}"))
}

/// In the unit that a person would use.
pub(super) fn span(time: Duration) -> String {
    match time.as_millis() {
        0..1_000 => format!("{} ms", time.as_millis()),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let room = usize::from(area.height.saturating_sub(2));
    let from = state.events.len().saturating_sub(room);
    let event =
        |(at, text): &(Duration, String)| Line::from(format!("{:7.1} s  {text}", at.as_secs_f64()));
    let lines: Vec<Line<'_>> = state.events.iter().skip(from).map(event).collect();
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" what happened ")),
        area,
    );
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn drawn(board: &Board, (columns, lines): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| draw(frame, board, 1, "")).unwrap();
        terminal.backend().to_string()
    }

    fn board(nodes: usize) -> Board {
        let board = Board::new((1..=nodes).map(|n| format!("n{n}")).collect(), 1, false);
        {
            let mut state = board.lock();
            let row = &mut state.rows[0];
            (row.online, row.owns, row.used, row.lsn) = (Some(true), true, true, Some(123_456));
            row.copy = Some(CopyStatus::Synchronizing);
            state.rows[1].process = Process::Killed;
            state.tally.written = 4_711;
            state.tally.longest = Duration::from_millis(412);
        }
        board.tell("n2 was killed");
        board
    }

    #[test]
    fn everything_that_counts_is_on_a_small_screen_with_three_nodes_and_with_nine() {
        for nodes in [3, 9] {
            let screen = drawn(&board(nodes), (80, 24));
            for wanted in [
                "n1    running  ONLINE   X      SYNCHRONIZING  123456",
                "<- the write",
                ">  n2    killed",
                "written 4711   errors 0",
                "lost 0",
                "longest wait 412 ms",
                "n2 was killed",
                "k kill",
                "q quit",
            ] {
                assert!(screen.contains(wanted), "{nodes} nodes, {wanted}:\n{screen}");
            }
        }
    }

    #[test]
    fn no_screen_is_too_small_or_too_large_to_be_drawn() {
        for size in [(1, 1), (20, 5), (300, 100)] {
            let _ = drawn(&board(9), size);
        }
    }

    #[test]
    fn the_newest_events_are_shown() {
        let board = board(3);
        for number in 0..100 {
            board.tell(format!("event {number}."));
        }
        let screen = drawn(&board, (80, 24));
        assert!(screen.contains("event 99.") && !screen.contains("event 0."), "{screen}");
    }
}
