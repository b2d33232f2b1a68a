//! Where a statement ends: SQLite's own rule (`sqlite3_complete`), so that what a person types there can
//! be typed here, with strings, comments and the bodies of triggers.

/// Where the text stands, as far as it has been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// Between statements.
    #[default]
    Start,
    /// In a statement that ends with the next semicolon.
    Normal,
    /// Behind EXPLAIN, which may stand before CREATE TRIGGER.
    Explain,
    /// Behind CREATE, and TEMP if it is there.
    Create,
    /// In a trigger, which ends with `; END ;`.
    Trigger,
    /// In a trigger, behind a semicolon.
    Semicolon,
    /// In a trigger, behind a semicolon and END.
    End,
}

/// What counts of a piece of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Semicolon,
    Blank,
    Explain,
    Create,
    Temp,
    Trigger,
    End,
    Other,
}

impl State {
    /// The table of SQLite's `complete.c`.
    fn after(self, piece: Piece) -> Self {
        use Piece as P;
        match (self, piece) {
            (state, P::Blank) => state,
            (Self::Trigger | Self::Semicolon, P::Semicolon) => Self::Semicolon,
            (_, P::Semicolon) => Self::Start,
            (Self::Start, P::Explain) => Self::Explain,
            // EXPLAIN QUERY PLAN.
            (Self::Explain, P::Other) => Self::Explain,
            (Self::Start | Self::Explain, P::Create) => Self::Create,
            (Self::Create, P::Temp) => Self::Create,
            (Self::Create, P::Trigger) => Self::Trigger,
            (Self::Semicolon, P::End) => Self::End,
            (Self::Trigger | Self::Semicolon | Self::End, _) => Self::Trigger,
            (Self::Start | Self::Normal | Self::Explain | Self::Create, _) => Self::Normal,
        }
    }
}

/// A statement, with its semicolon if it has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Statement<'a> {
    /// Its text, without what is blank around it.
    pub(super) text: &'a str,
    /// How many line ends stand before its first word.
    pub(super) lines_before: usize,
    /// Whether it has its end.
    pub(super) complete: bool,
}

/// Reads a text line by line, each once, and knows whether it stands between statements.
#[derive(Default)]
pub(super) struct Scanner {
    state: State,
    /// What ends the string or the comment that is open.
    open: Option<&'static str>,
}

impl Scanner {
    /// More of the text: whole lines, but for the last.
    pub(super) fn feed(&mut self, text: &str) {
        let mut rest = text;
        loop {
            if let Some(end) = self.open {
                let Some(at) = rest.find(end) else { return };
                rest = &rest[at + end.len()..];
                self.open = None;
            }
            if rest.is_empty() {
                return;
            }
            let Next { piece, length, open } = next(rest);
            self.state = self.state.after(piece);
            self.open = open;
            rest = &rest[length..];
        }
    }

    /// Whether all statements have their end, and no comment is open.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Start && self.open.is_none()
    }
}

/// Whether all statements of a text have their end, and no comment is open at the end.
pub(super) fn is_complete(text: &str) -> bool {
    let mut scanner = Scanner::default();
    scanner.feed(text);
    scanner.is_between()
}

/// The statements of a text; what is only blank or comment is none. The last one may not have its end.
pub(super) fn split(text: &str) -> Vec<Statement<'_>> {
    let (mut statements, mut state) = (Vec::new(), State::Start);
    // Where the statement begins, with its comments, and where its first word does.
    let (mut begin, mut word) = (0, None);
    let (mut at, mut counted, mut lines) = (0, 0, 0);
    let mut of = |begin: usize, word: usize, end: usize, complete: bool| {
        lines += text[counted..word].matches('\n').count();
        counted = word;
        Statement { text: text[begin..end].trim(), lines_before: lines, complete }
    };
    while at < text.len() {
        let Next { piece, length, .. } = next(&text[at..]);
        state = state.after(piece);
        if !matches!(piece, Piece::Blank | Piece::Semicolon) {
            word.get_or_insert(at);
        }
        at += length;
        if state == State::Start && piece == Piece::Semicolon {
            statements.extend(word.map(|word| of(begin, word, at, true)));
            (begin, word) = (at, None);
        }
    }
    statements.extend(word.map(|word| of(begin, word, at, false)));
    statements
}

/// The first word of a statement, in capitals; comments before it do not count.
pub(super) fn first_word(text: &str) -> String {
    let mut rest = text;
    while !rest.is_empty() {
        let Next { piece, length, .. } = next(rest);
        if piece != Piece::Blank {
            let word: String = rest.chars().take_while(|c| is_of_word(*c)).collect();
            return word.to_ascii_uppercase();
        }
        rest = &rest[length..];
    }
    String::new()
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// The first piece of a text.
struct Next {
    piece: Piece,
    /// Its length in bytes.
    length: usize,
    /// What would end it, where the text ends before.
    open: Option<&'static str>,
}

/// The first piece of a text that is not empty.
fn next(text: &str) -> Next {
    let whole = |piece, length| Next { piece, length, open: None };
    let to = |piece, from: usize, end: &'static str| match text[from..].find(end) {
        Some(found) => whole(piece, from + found + end.len()),
        None => Next { piece, length: text.len(), open: Some(end) },
    };
    let first = text.chars().next().unwrap_or(' ');
    match first {
        ';' => whole(Piece::Semicolon, 1),
        // Its line may be the last one.
        _ if text.starts_with("--") => Next { open: None, ..to(Piece::Blank, 2, "\n") },
        _ if text.starts_with("/*") => to(Piece::Blank, 2, "*/"),
        // A doubled quote inside ends one string and begins the next: it comes to the same.
        '\'' => to(Piece::Other, 1, "'"),
        '"' => to(Piece::Other, 1, "\""),
        '`' => to(Piece::Other, 1, "`"),
        '[' => to(Piece::Other, 1, "]"),
        ' ' | '\t' | '\n' | '\r' | '\x0c' => whole(Piece::Blank, 1),
        _ if is_of_word(first) => {
            let length = text.find(|c| !is_of_word(c)).unwrap_or(text.len());
            whole(keyword(&text[..length]), length)
        }
        other => whole(Piece::Other, other.len_utf8()),
    }
}

fn keyword(word: &str) -> Piece {
    let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
    match () {
        () if is("CREATE") => Piece::Create,
        () if is("TRIGGER") => Piece::Trigger,
        () if is("TEMP") || is("TEMPORARY") => Piece::Temp,
        () if is("END") => Piece::End,
        () if is("EXPLAIN") => Piece::Explain,
        () => Piece::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        split(text).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn a_statement_ends_with_a_semicolon_that_is_in_no_string_and_no_comment() {
        for complete in [
            "",
            "  \n",
            "-- only said;",
            "SELECT 1;",
            "SELECT ';' ;",
            "SELECT 'it''s; so';",
            "SELECT \";\", [;], `;`; -- done",
            "SELECT 1 /* ; */;",
            "SELECT 1; /* and no more */",
            "select 1;;",
        ] {
            assert!(is_complete(complete), "{complete}");
        }
        for incomplete in [
            "SELECT 1",
            "SELECT ';",
            "SELECT 1 -- ;",
            "SELECT 1 /* ;",
            "SELECT 1; /* open",
            "/*/",
            "SELECT 1; SELECT 2",
            "SELECT [a;",
        ] {
            assert!(!is_complete(incomplete), "{incomplete}");
        }
    }

    #[test]
    fn a_trigger_ends_with_its_end_and_nothing_before() {
        let trigger = "CREATE TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = 1; DELETE FROM u;";
        for (text, complete) in [
            (trigger.to_owned(), false),
            (format!("{trigger} END"), false),
            (format!("{trigger} END;"), true),
            (format!("{trigger} /* ; */ end ; "), true),
            (format!("{trigger} END x;"), false),
            (trigger.replace("CREATE", "create temp"), false),
            (trigger.replace("CREATE", "EXPLAIN CREATE"), false),
            // Of a table that is called so it is not the beginning.
            ("CREATE TABLE trigger(a); ".to_owned(), true),
        ] {
            assert_eq!(is_complete(&text), complete, "{text}");
        }
        assert_eq!(split(&format!("{trigger} END; SELECT 1;")).len(), 2);
    }

    #[test]
    fn a_text_is_split_into_its_statements_and_each_knows_its_line() {
        let text = "-- first\nSELECT 1;\n\n/* two\nlines */ SELECT 2; SELECT 'a\nb';\nSELECT 3";
        let all = split(text);
        let lines: Vec<usize> = all.iter().map(|statement| statement.lines_before).collect();
        assert_eq!(lines, [1, 4, 4, 6]);
        assert_eq!(all[3].text, "SELECT 3");
        assert!(all[2].complete && !all[3].complete);
        assert_eq!(texts("; ;\n-- nothing\n;"), Vec::<&str>::new());
        assert_eq!(texts("SELECT 1; -- behind"), ["SELECT 1;"]);
    }

    #[test]
    fn lines_one_by_one_come_to_the_same_as_all_at_once() {
        let text = "SELECT 'a\n;' /* x\n; */;\n-- y ;\nCREATE TRIGGER t AFTER INSERT ON u\nBEGIN SELECT\n\
            1; END\n;\n[a\n]\n;";
        let mut scanner = Scanner::default();
        let mut read = String::new();
        for line in text.split_inclusive('\n') {
            scanner.feed(line);
            read += line;
            assert_eq!(scanner.is_between(), is_complete(&read), "{read}");
        }
        assert!(scanner.is_between());
    }

    #[test]
    fn the_first_word_is_found_behind_comments() {
        assert_eq!(first_word("-- so\n/* and */ select 1"), "SELECT");
        assert_eq!(first_word("(1)"), "");
        assert_eq!(first_word("  "), "");
        assert_eq!(first_word("with é AS (SELECT 1)"), "WITH");
    }

    #[test]
    fn any_text_is_read_to_its_end_and_nothing_of_it_is_lost() {
        for text in ["é;ü'", "'", "/", "/*", "-", "--", "[", "🙂;", "\u{0}x;"] {
            let joined: usize = split(text).iter().map(|statement| statement.text.len()).sum();
            assert!(joined <= text.len());
        }
    }
}
