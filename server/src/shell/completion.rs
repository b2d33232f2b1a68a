//! What Tab offers: commands, databases, keywords, tables and their columns.

use super::dot::COMMANDS;
use super::output::Mode;

/// How many names are kept of a database.
pub(super) const NAMES_MAX: usize = 5_000;

/// The keywords that people write; those of SQLite that nobody does are left out.
#[rustfmt::skip]
const KEYWORDS: [&str; 85] = [
    "ADD", "ALL", "ALTER", "AND", "AS", "ASC", "AUTOINCREMENT", "BEFORE", "BEGIN", "BETWEEN", "BY",
    "CASCADE", "CASE", "CAST", "CHECK", "COLLATE", "COLUMN", "CONFLICT", "CONSTRAINT", "CREATE", "CROSS",
    "CURRENT_TIMESTAMP", "DEFAULT", "DELETE", "DESC", "DISTINCT", "DO", "DROP", "ELSE", "END", "EXCEPT",
    "EXISTS", "EXPLAIN", "FILTER", "FOREIGN", "FROM", "GENERATED", "GLOB", "GROUP", "HAVING", "IF", "IN",
    "INDEX", "INNER", "INSERT", "INTERSECT", "INTO", "IS", "JOIN", "KEY", "LEFT", "LIKE", "LIMIT", "NOT",
    "NOTHING", "NULL", "OFFSET", "ON", "OR", "ORDER", "OVER", "PARTITION", "PLAN", "PRAGMA", "PRIMARY",
    "QUERY", "RECURSIVE", "REFERENCES", "RENAME", "REPLACE", "RETURNING", "SELECT", "SET", "STRICT",
    "TABLE", "THEN", "TRIGGER", "UNION", "UNIQUE", "UPDATE", "VALUES", "VIEW", "WHEN", "WHERE", "WITH",
];

/// What a database has that can be named.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Names {
    /// Tables and views, each with its columns.
    pub(super) tables: Vec<(String, Vec<String>)>,
    /// `DB` and `DB/SHARD`.
    pub(super) places: Vec<String>,
}

/// Where the word begins that is to be completed, and what it may become.
pub(super) fn complete(names: &Names, line: &str) -> (usize, Vec<String>) {
    if line.starts_with('.') {
        return of_command(names, line);
    }
    let begin = line.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
    let begin = begin.map_or(0, |at| at + line[at..].chars().next().map_or(1, char::len_utf8));
    let word = &line[begin..];
    if let Some((table, column)) = word.rsplit_once('.') {
        let at = begin + table.len() + 1;
        return (at, columns_of(names, table).filter(|name| begins(name, column)).collect());
    }
    if word.is_empty() {
        return (begin, Vec::new());
    }
    let mut found: Vec<String> = Vec::new();
    // Tables and columns first: nobody needs help with SELECT that long.
    let tables = names.tables.iter().map(|(table, _)| table);
    let columns = names.tables.iter().flat_map(|(_, columns)| columns);
    found.extend(tables.chain(columns).filter(|name| begins(name, word)).map(|name| quoted(name)));
    found.sort_unstable();
    found.dedup();
    let small = word.chars().all(|c| !c.is_ascii_uppercase());
    let keywords = KEYWORDS.iter().filter(|keyword| begins(keyword, word));
    found.extend(
        keywords.map(
            |keyword| {
                if small { keyword.to_ascii_lowercase() } else { (*keyword).to_owned() }
            },
        ),
    );
    (begin, found)
}

fn columns_of<'a>(names: &'a Names, table: &str) -> impl Iterator<Item = String> + use<'a> {
    let table = table.to_owned();
    let of = names.tables.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(&table));
    of.flat_map(|(_, columns)| columns.iter().map(|name| quoted(name)))
}

fn of_command(names: &Names, line: &str) -> (usize, Vec<String>) {
    let begin = line.rfind(' ').map_or(0, |at| at + 1);
    let word = &line[begin..];
    let fitting = |all: Vec<String>| (begin, all.into_iter().filter(|n| begins(n, word)).collect());
    if begin == 0 {
        return fitting(COMMANDS.iter().map(|(name, ..)| (*name).to_owned()).collect());
    }
    match line.split(' ').next().unwrap_or_default() {
        ".use" => fitting(names.places.clone()),
        ".mode" => fitting(Mode::NAMES.map(str::to_owned).to_vec()),
        ".timer" => fitting(vec!["on".to_owned(), "off".to_owned()]),
        ".schema" => fitting(names.tables.iter().map(|(table, _)| table.clone()).collect()),
        _ => (begin, Vec::new()),
    }
}

fn begins(name: &str, word: &str) -> bool {
    name.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// A name as it can stand in a statement.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name));
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let table = |name: &str, columns: &[&str]| {
            (name.to_owned(), columns.iter().map(|&c| c.to_owned()).collect())
        };
        Names {
            tables: vec![table("person", &["id", "name"]), table("order", &["id", "big sum"])],
            places: vec!["demo".to_owned(), "demo/usa".to_owned()],
        }
    }

    fn offered(line: &str) -> Vec<String> {
        complete(&names(), line).1
    }

    #[test]
    fn tables_columns_and_keywords_are_offered_in_the_case_of_the_word() {
        assert_eq!(offered("SELECT * FROM per"), ["person"]);
        assert_eq!(offered("SEL"), ["SELECT"]);
        assert_eq!(offered("sel"), ["select"]);
        assert_eq!(
            offered("SELECT i"),
            ["id", "if", "in", "index", "inner", "insert", "intersect", "into", "is"]
        );
        assert_eq!(complete(&names(), "SELECT person.na"), (14, vec!["name".to_owned()]));
        assert_eq!(offered("SELECT x FROM ord"), ["\"order\"", "order"]);
        assert_eq!(offered("SELECT big"), ["\"big sum\""]);
        assert!(offered("SELECT ").is_empty());
    }

    #[test]
    fn commands_complete_what_they_take() {
        assert_eq!(offered(".da"), [".databases"]);
        assert_eq!(offered(".use demo/"), ["demo/usa"]);
        assert_eq!(offered(".mode "), ["table", "json", "csv"]);
        assert_eq!(offered(".schema p"), ["person"]);
        assert!(offered(".quit x").is_empty());
    }

    #[test]
    fn no_place_in_any_text_is_a_surprise() {
        for line in ["é", "é.", "SELECT 'é", ".é", ".use é", "a.b.c", "🙂", "."] {
            let (at, _) = complete(&names(), line);
            assert!(line.is_char_boundary(at), "{line}");
        }
    }
}
