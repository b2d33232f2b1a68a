//! A table with a column for each server, which stays readable where there are many: what does not fit
//! the terminal is cut between columns, and names that are too long give way to numbers.

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};

/// A table whose last columns are servers.
pub(super) struct Grid {
    /// Headings of the columns before those.
    pub(super) lead: Vec<&'static str>,
    /// Server by server: its name, and what is said of it in the heading, or nothing.
    pub(super) servers: Vec<(String, String)>,
    pub(super) rows: Vec<Row>,
}

/// One row.
pub(super) struct Row {
    /// What stands before the servers. The first is repeated where the table is cut.
    pub(super) lead: Vec<String>,
    /// One a server.
    pub(super) cells: Vec<String>,
}

impl Grid {
    /// As text; `width` is that of the terminal, if there is one.
    pub(super) fn render(&self, width: Option<usize>, colors: bool) -> String {
        let names: Vec<String> = self.servers.iter().map(|(name, _)| name.clone()).collect();
        let numbers: Vec<String> = (1..=names.len()).map(|number| number.to_string()).collect();
        let named = self.cut(&names, GAP, width);
        let numbered = self.cut(&numbers, GAP_SMALL, width);
        if named.len() <= numbered.len() {
            return self.blocks(&names, GAP, &named, colors);
        }
        let legend = numbers.iter().zip(&names).map(|(number, name)| format!("{number} {name}"));
        let legend = wrapped(&legend.collect::<Vec<_>>(), width);
        format!("{legend}\n{}", self.blocks(&numbers, GAP_SMALL, &numbered, colors))
    }

    /// Which servers stand side by side, as ranges; at least one in each.
    fn cut(
        &self,
        headings: &[String],
        gap: usize,
        width: Option<usize>,
    ) -> Vec<std::ops::Range<usize>> {
        let room = |first: usize| {
            let lead = (0..self.lead.len()).take(if first == 0 { usize::MAX } else { 1 });
            width.map(|width| width.saturating_sub(lead.map(|at| self.lead_width(at) + GAP).sum()))
        };
        let (mut ranges, mut first) = (Vec::new(), 0);
        while first < headings.len() {
            let (mut used, mut end) = (0, first);
            while end < headings.len() {
                used += self.server_width(headings, end) + gap;
                // The last gap of a line may be cut off.
                if end > first && room(first).is_some_and(|room| used > room + gap) {
                    break;
                }
                end += 1;
            }
            ranges.push(first..end);
            first = end;
        }
        ranges
    }

    fn lead_width(&self, at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.lead.get(at));
        cells.map(|cell| length(cell)).chain([length(self.lead[at])]).max().unwrap_or_default()
    }

    fn server_width(&self, headings: &[String], at: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.cells.get(at)).map(|cell| length(cell));
        let heading = [length(&headings[at]), length(&self.servers[at].1)];
        cells.chain(heading).max().unwrap_or_default()
    }

    fn blocks(
        &self,
        headings: &[String],
        gap: usize,
        ranges: &[std::ops::Range<usize>],
        colors: bool,
    ) -> String {
        let block = |range: &std::ops::Range<usize>| {
            let lead = if range.start == 0 { self.lead.len() } else { 1 };
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_content_arrangement(ContentArrangement::Disabled);
            if !colors {
                table.force_no_tty();
            }
            let states = self.servers[range.clone()].iter().any(|(_, state)| !state.is_empty());
            let above = self.lead[..lead].iter().map(|text| (*text).to_owned());
            let servers = range.clone().map(|at| match states {
                true => format!("{}\n{}", headings[at], self.servers[at].1),
                false => headings[at].clone(),
            });
            let centered = |text: String| Cell::new(text).set_alignment(CellAlignment::Center);
            let bold = |cell: Cell| if colors { cell.add_attribute(Attribute::Bold) } else { cell };
            let header = above.map(Cell::new).chain(servers.map(centered));
            table.set_header(header.map(bold));
            for row in &self.rows {
                let above = row.lead[..lead].iter().map(Cell::new);
                let cells = row.cells[range.clone()].iter().cloned().map(centered);
                table.add_row(above.chain(cells));
            }
            for (at, column) in table.column_iter_mut().enumerate() {
                let gap = if at < lead { GAP } else { gap };
                column.set_padding((0, u16::try_from(gap).unwrap_or_default()));
            }
            table.trim_fmt()
        };
        ranges.iter().map(block).collect::<Vec<_>>().join("\n\n")
    }
}

/// Between two columns.
const GAP: usize = 2;
/// Between two servers where there are many.
const GAP_SMALL: usize = 1;

fn length(text: &str) -> usize {
    text.chars().count()
}

/// These, side by side, in as many lines as they need.
pub(super) fn wrapped(items: &[String], width: Option<usize>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        match lines.last_mut() {
            Some(line) if width.is_none_or(|width| length(line) + 3 + length(item) <= width) => {
                line.push_str("   ");
                line.push_str(item);
            }
            _ => lines.push(item.clone()),
        }
    }
    lines.join("\n")
}
