//! SQL as text: where one statement ends and the next begins, and what a statement is by its first
//! words.
//!
//! What a statement does is SQLite's to say. Here it is only found out who has to be asked: a statement
//! that begins as a read is tried as one, and what begins or ends a transaction concerns the stream.

/// What a statement is, by how it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `BEGIN`.
    Begin(Mode),
    /// `COMMIT` or `END`.
    Commit,
    /// `ROLLBACK`, not to a savepoint.
    Rollback,
    /// `PRAGMA foreign_keys`, which is state of the stream: asked for, or set.
    ForeignKeys(Option<bool>),
    /// It begins as what only reads; `may_write`: and may write all the same.
    Read { may_write: bool },
    /// All else.
    Write,
}

/// What a transaction that begins is going to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Nobody knows.
    Deferred,
    /// It writes.
    Immediate,
    /// It only reads.
    ReadOnly,
}

/// What the text is made of, as far as SQLite's own `sqlite3_complete` looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'s> {
    /// Space, or a comment.
    Space,
    Semicolon,
    /// A keyword, a name that is not quoted, or a number.
    Word(&'s str),
    /// A string or a quoted name, with its quotes.
    Quoted(&'s str),
    Other(char),
}

/// Reads the token that `sql` begins with; what is behind it.
fn token(sql: &str) -> Option<(Token<'_>, &str)> {
    let first = sql.chars().next()?;
    let upto = |found: Option<usize>, length: usize| found.map_or(sql.len(), |at| at + length);
    let (token, end): (fn(&str) -> Token<'_>, usize) = match first {
        ' ' | '\t' | '\n' | '\r' | '\u{c}' => {
            let end = sql.find(|c: char| !matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}'));
            (|_| Token::Space, upto(end, 0))
        }
        '\u{feff}' => (|_| Token::Space, first.len_utf8()),
        '-' if sql.starts_with("--") => (|_| Token::Space, upto(sql.find('\n'), 1)),
        '/' if sql.starts_with("/*") => {
            let end = sql[2..].find("*/").map(|at| at + 2);
            (|_| Token::Space, upto(end, 2))
        }
        ';' => (|_| Token::Semicolon, 1),
        '\'' | '"' | '`' => {
            let end = sql[1..].find(first).map(|at| at + 1);
            (|text| Token::Quoted(text), upto(end, 1))
        }
        '[' => (|text| Token::Quoted(text), upto(sql.find(']'), 1)),
        _ if is_of_a_word(first) => {
            let end = sql.find(|c: char| !is_of_a_word(c));
            (|text| Token::Word(text), upto(end, 0))
        }
        _ => (|text| Token::Other(text.chars().next().unwrap_or(' ')), first.len_utf8()),
    };
    Some((token(&sql[..end]), &sql[end..]))
}

fn is_of_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || (!c.is_ascii() && c != '\u{feff}')
}

/// Where the scan of a script stands, by the rules of `sqlite3_complete`: a trigger ends at an `END`
/// between two semicolons, every other statement at the first one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Start,
    Normal,
    Explain,
    Create,
    Trigger,
    TriggerSemicolon,
    TriggerEnd,
}

impl State {
    fn after(self, token: Token<'_>) -> Self {
        let is = |word: &str| matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word));
        match (self, token) {
            (state, Token::Space) => state,
            (Self::Trigger | Self::TriggerSemicolon, Token::Semicolon) => Self::TriggerSemicolon,
            (_, Token::Semicolon) => Self::Start,
            (Self::TriggerSemicolon, _) if is("end") => Self::TriggerEnd,
            (Self::Trigger | Self::TriggerSemicolon | Self::TriggerEnd, _) => Self::Trigger,
            (Self::Start, _) if is("explain") => Self::Explain,
            (Self::Start | Self::Explain, _) if is("create") => Self::Create,
            // EXPLAIN QUERY PLAN.
            (Self::Explain, _) if is("query") || is("plan") => Self::Explain,
            (Self::Create, _) if is("temp") || is("temporary") => Self::Create,
            (Self::Create, _) if is("trigger") => Self::Trigger,
            _ => Self::Normal,
        }
    }
}

/// The statements of a script, without the semicolons that part them; what holds nothing but space and
/// comments is none. Linear in the length of the script.
pub(super) fn statements(script: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut state, mut begin, mut rest, mut empty) = (State::Start, script, script, true);
    let part = |begin: &'_ str, rest: &str| begin.len() - rest.len();
    while let Some((token, behind)) = token(rest) {
        state = state.after(token);
        if token == Token::Semicolon && state == State::Start {
            if !empty {
                found.push(&begin[..part(begin, rest)]);
            }
            (begin, empty) = (behind, true);
        } else {
            empty &= token == Token::Space;
        }
        rest = behind;
    }
    if !empty {
        found.push(begin);
    }
    found
}

/// What a statement is.
pub(super) fn kind(statement: &str) -> Kind {
    let mut tokens = Tokens(statement).filter(|token| *token != Token::Space);
    let mut words: Vec<String> = Vec::new();
    let mut words_only = true;
    for token in tokens.by_ref().take(4) {
        match token {
            Token::Word(word) if words_only => words.push(word.to_ascii_lowercase()),
            // Before the first word, as SQLite passes over it.
            Token::Semicolon if words.is_empty() => {}
            Token::Semicolon => break,
            _ => words_only = false,
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let transaction = |words: &[&str]| matches!(words, [] | ["transaction"]) && words_only;
    match words.as_slice() {
        ["begin", rest @ ..] if words_only => begin(rest).map_or(Kind::Write, Kind::Begin),
        ["commit" | "end", rest @ ..] if transaction(rest) => Kind::Commit,
        ["rollback", rest @ ..] if transaction(rest) => Kind::Rollback,
        ["pragma", ..] => {
            foreign_keys(statement).map_or(Kind::Read { may_write: true }, Kind::ForeignKeys)
        }
        ["with", ..] => Kind::Read { may_write: true },
        ["select" | "values" | "explain" | "describe", ..] => Kind::Read { may_write: false },
        _ => Kind::Write,
    }
}

/// `BEGIN [DEFERRED|IMMEDIATE|EXCLUSIVE] [TRANSACTION] [READONLY]`.
fn begin(words: &[&str]) -> Option<Mode> {
    let mode = |word: &str| match word {
        "deferred" => Some(Mode::Deferred),
        "immediate" | "exclusive" | "concurrent" => Some(Mode::Immediate),
        "readonly" => Some(Mode::ReadOnly),
        _ => None,
    };
    match words {
        [] | ["transaction"] => Some(Mode::Deferred),
        [word] | [word, "transaction"] | ["transaction", word] => mode(word),
        _ => None,
    }
}

/// Whether the statement is `PRAGMA [main.]foreign_keys`, and what it sets.
fn foreign_keys(pragma: &str) -> Option<Option<bool>> {
    let tokens: Vec<Token<'_>> =
        Tokens(pragma).filter(|token| *token != Token::Space).take(8).collect();
    let is = |token: &Token<'_>, word: &str| matches!(token, Token::Word(text) if text.eq_ignore_ascii_case(word));
    let rest = match tokens.as_slice() {
        [_, schema, Token::Other('.'), name, rest @ ..]
            if is(schema, "main") && is(name, "foreign_keys") =>
        {
            rest
        }
        [_, name, rest @ ..] if is(name, "foreign_keys") => rest,
        _ => return None,
    };
    let rest = rest.strip_suffix(&[Token::Semicolon]).unwrap_or(rest);
    let value = match rest {
        [] => return Some(None),
        [Token::Other('='), value] | [Token::Other('('), value, Token::Other(')')] => value,
        _ => return None,
    };
    match value {
        Token::Word(text) => Some(Some(is_true(text))),
        Token::Quoted(text) => Some(Some(is_true(&text[1..text.len().max(2) - 1]))),
        _ => None,
    }
}

/// As SQLite reads a boolean: what it does not know is false.
fn is_true(text: &str) -> bool {
    let known = ["on", "yes", "true"].iter().any(|word| text.eq_ignore_ascii_case(word));
    known || text.parse::<i64>().is_ok_and(|number| number != 0)
}

/// The tokens of a text, one after the other.
struct Tokens<'s>(&'s str);

impl<'s> Iterator for Tokens<'s> {
    type Item = Token<'s>;

    fn next(&mut self) -> Option<Token<'s>> {
        let (token, rest) = token(self.0)?;
        self.0 = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::fallible_iterator::FallibleIterator as _;
    use rusqlite::{Batch, Connection};

    use super::*;

    /// Scripts that run on an empty database, each statement after the other.
    const SCRIPTS: [&str; 12] = [
        "",
        " ; ;; -- nothing\n /* nothing ; */ ;",
        "SELECT 1",
        "SELECT 1;",
        "SELECT ';', \";\" AS [a;b], 'it''s;' /* ; */ -- ;\n; SELECT 2",
        "CREATE TABLE t (a, b); INSERT INTO t VALUES ('x;y', 'BEGIN;'); SELECT * FROM t;",
        "CREATE TABLE t (a); CREATE TABLE log (b);\n\
         CREATE TRIGGER tr AFTER INSERT ON t BEGIN\n\
           INSERT INTO log VALUES (CASE WHEN new.a THEN 1 ELSE 2 END);\n\
           DELETE FROM log WHERE b = 7; -- END;\n\
         END;\n\
         INSERT INTO t VALUES (1); SELECT * FROM log",
        "CREATE TABLE t (a); CREATE TEMP TRIGGER IF NOT EXISTS tr DELETE ON t \
         BEGIN SELECT 1; SELECT 'END'; END ; SELECT 3",
        "CREATE TABLE t (a); EXPLAIN CREATE TRIGGER tr DELETE ON t BEGIN SELECT 1; END; SELECT 4",
        "CREATE TABLE \"end\" (a); CREATE VIEW [trigger] AS SELECT 1; SELECT a FROM \"end\";",
        "BEGIN; CREATE TABLE größe (é TEXT); INSERT INTO größe VALUES ('ü;'); COMMIT;",
        "EXPLAIN QUERY PLAN SELECT 1; SELECT `a;` FROM (SELECT 1 AS `a;`) -- the end;",
    ];

    #[test]
    fn a_script_is_split_where_sqlite_ends_its_statements() {
        for script in SCRIPTS {
            let conn = Connection::open_in_memory().unwrap();
            let mut batch = Batch::new(&conn, script);
            let mut expected = Vec::new();
            while let Some(mut statement) = batch.next().unwrap() {
                expected.push(statement.expanded_sql().unwrap());
                let mut rows = statement.raw_query();
                while rows.next().unwrap().is_some() {}
            }
            let conn = Connection::open_in_memory().unwrap();
            let mut found = Vec::new();
            for part in statements(script) {
                let mut statement = conn.prepare(part).unwrap();
                found.push(statement.expanded_sql().unwrap());
                let mut rows = statement.raw_query();
                while rows.next().unwrap().is_some() {}
            }
            assert_eq!(found.len(), expected.len(), "{script}");
            for (found, expected) in found.iter().zip(&expected) {
                // SQLite counts the semicolon to the statement.
                let same = |expected: &str| expected.trim() == found.trim();
                let without = expected.trim_end().strip_suffix(';');
                assert!(same(expected) || without.is_some_and(same), "{found:?}: {expected:?}");
            }
        }
    }

    #[test]
    fn what_is_not_closed_reaches_to_the_end_and_takes_no_longer_than_its_length() {
        for open in ["'", "\"", "[", "/* ", "-- ", "CREATE TRIGGER t BEGIN "] {
            let script = format!("SELECT 1; SELECT 2 {open}{}", ";x".repeat(500_000));
            let found = statements(&script);
            // A trigger is one only where its statement begins with CREATE.
            let split = open.starts_with("CREATE");
            assert_eq!(found.len(), if split { 500_002 } else { 2 }, "{open}");
        }
        let trigger = format!("CREATE TRIGGER t BEGIN {}", ";x".repeat(500_000));
        assert_eq!(statements(&trigger).len(), 1);
    }

    #[test]
    fn a_statement_is_known_by_its_first_words() {
        use Kind::{Begin, Commit, ForeignKeys, Read, Rollback, Write};
        let (read, unsure) = (Read { may_write: false }, Read { may_write: true });
        let cases = [
            ("BEGIN", Begin(Mode::Deferred)),
            (" begin -- now\n deferred transaction;", Begin(Mode::Deferred)),
            ("BEGIN IMMEDIATE", Begin(Mode::Immediate)),
            ("BEGIN EXCLUSIVE TRANSACTION", Begin(Mode::Immediate)),
            ("BEGIN TRANSACTION READONLY", Begin(Mode::ReadOnly)),
            ("BEGIN READONLY", Begin(Mode::ReadOnly)),
            ("BEGIN SOMETHING", Write),
            ("BEGIN (1)", Write),
            ("COMMIT", Commit),
            ("END TRANSACTION;", Commit),
            ("END x", Write),
            ("ROLLBACK", Rollback),
            ("ROLLBACK TO a", Write),
            ("ROLLBACK TRANSACTION TO a", Write),
            ("SAVEPOINT a", Write),
            (";; /* a */ SELECT 1", read),
            ("\u{feff}select(1)", read),
            ("VALUES (1)", read),
            ("EXPLAIN DELETE FROM t", read),
            ("DESCRIBE DELETE FROM t", read),
            ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", unsure),
            ("PRAGMA user_version = 3", unsure),
            ("PRAGMA foreign_keys", ForeignKeys(None)),
            ("PRAGMA foreign_keys=off", ForeignKeys(Some(false))),
            ("pragma main.foreign_keys ( 'yes' ) ;", ForeignKeys(Some(true))),
            ("PRAGMA foreign_keys = 1", ForeignKeys(Some(true))),
            ("PRAGMA foreign_keys = 0", ForeignKeys(Some(false))),
            ("PRAGMA foreign_keys = ", unsure),
            ("PRAGMA foreign_key_list(t)", unsure),
            ("INSERT INTO t VALUES (1)", Write),
            ("'BEGIN'", Write),
            ("", Write),
            ("(", Write),
        ];
        for (sql, expected) in cases {
            assert_eq!(kind(sql), expected, "{sql}");
        }
    }
}
