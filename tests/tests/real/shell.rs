//! `quorate shell`: statements from a file, and as a person types them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{ChildStdin, ChildStdout, Stdio};

use quorate_tests::{Lab, Node, Pty};

use super::clients::{url, with_user};
use super::databases::{data, with_database};

/// Runs a shell on this input: exit code, output, errors.
fn fed(lab: &Lab, args: &[&str], input: &str) -> (i32, String, String) {
    lab.run_with(1, &[&["shell"], args].concat(), &[], input)
}

#[test]
fn a_file_is_run_statement_by_statement_up_to_the_first_error() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 2);
    let data = data(&nodes[0]);
    let script = "-- people\nCREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT);\n\
        INSERT INTO person (name)\n  VALUES ('Ada;'), ('Eve');\n\
        CREATE TRIGGER shout AFTER INSERT ON person BEGIN\n  \
          UPDATE person SET name = upper(name) WHERE id = new.id;\n  SELECT 1;\nEND;\n\
        INSERT INTO person (name) VALUES ('bob') RETURNING id;\n\
        SELECT name FROM person ORDER BY id\n";
    let (code, said, errors) = fed(&lab, &["demo", "--data", &data], script);
    assert_eq!((code, errors.as_str()), (0, ""), "{said}");
    assert!(said.contains("2 rows affected") && said.contains(" BOB"), "{said}");
    assert!(!said.contains('>'), "no prompt: {said}");

    let script = "SELECT 1;\nINSERT INTO person (name) VALUES ('kept');\n\n-- and\nINSERT INTO person\n\
        (nome) VALUES ('x');\nDELETE FROM person;\n";
    let (code, _, errors) = fed(&lab, &["demo", "--data", &data], script);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("line 5: ") && errors.contains("nome"), "{errors}");
    let count = "SELECT count(*) AS n FROM person;";
    let (_, said, _) = fed(&lab, &["--data", &data, "--mode", "csv"], count);
    assert_eq!(said, "n\n4\n", "what stands before is done, what stands behind is not");

    // It looks like a read, and writes.
    let (code, said, errors) = fed(
        &lab,
        &["--data", &data],
        "WITH x AS (SELECT 9) INSERT INTO person SELECT *, 'w' FROM x;",
    );
    assert_eq!(code, 0, "{errors}");
    assert!(said.contains("1 row affected"), "{said}");
}

#[test]
fn results_are_written_as_asked_and_commands_tell_of_the_cluster() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 2);
    let data = data(&nodes[0]);
    let script = "INSERT INTO t VALUES (1, NULL, 2);\n.mode json\n\
        SELECT id, writer, 'a\"b' AS \"x y\", x'00ff' AS b, 1.0 AS r FROM t;\n.mode csv\n\
        SELECT 'a,b' AS x, NULL AS y, '' AS z;\n.mode table\n.tables\n.schema t\n.databases\n.servers\n.layout\n\
        .sync\n.quit\nSELECT broken;\n";
    let (code, said, errors) = fed(&lab, &["demo/main", "--data", &data], script);
    assert_eq!(code, 0, "{said}{errors}");
    let json =
        "[{\"id\":1,\"writer\":null,\"x y\":\"a\\\"b\",\"b\":{\"base64\":\"AP8=\"},\"r\":1.0}]\n";
    assert!(said.contains(json), "{said}");
    assert!(said.contains("x,y,z\n\"a,b\",,\"\"\n"), "{said}");
    assert!(said.contains("\nt\nCREATE TABLE t (id INTEGER PRIMARY KEY"), "{said}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = said.lines().map(words).collect();
    assert!(lines.iter().any(|line| line.starts_with("demo main n") && line.contains("n2 ONLINE")));
    assert!(lines.iter().any(|line| line.starts_with("n1 ") && line.ends_with("in use")), "{said}");
    let layout = ["demo/main X o", "demo/main o X"];
    assert!(lines.iter().any(|line| layout.contains(&line.as_str())), "{said}");
    assert!(lines.iter().any(|line| line.starts_with("main n2 ONLINE ")), "the LSN: {said}");
}

#[test]
fn what_is_wrong_is_named_with_what_to_do_and_with_an_exit_code() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 1);
    let data = data(&nodes[0]);
    let (code, _, errors) = fed(&lab, &["nope", "--data", &data], "SELECT 1;");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("'nope'") && errors.contains("demo"), "{errors}");
    let (code, _, errors) = fed(&lab, &["demo/usa", "--data", &data], "SELECT 1;");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("'usa'") && errors.contains("main"), "{errors}");
    let (code, _, errors) = fed(&lab, &["demo", "--data", "/none"], "SELECT 1;");
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("--data"), "{errors}");
    let (code, _, errors) = fed(&lab, &["--url", "http://127.0.0.1/demo"], "SELECT 1;");
    assert_eq!(code, 2, "{errors}");
    let nobody = "quorate://127.0.0.1:1/demo?timeout-ms=500";
    let (code, _, errors) = fed(&lab, &["--url", nobody], "SELECT 1;");
    assert_eq!(code, 3, "{errors}");
    assert!(errors.contains("127.0.0.1:1") && errors.contains("quorate status"), "{errors}");
    for (command, said) in
        [(".use x", "'x'"), (".nope", ".help"), (".mode xml", "json"), (".timer", "on|off")]
    {
        let (code, _, errors) = fed(&lab, &["--data", &data], command);
        assert_eq!(code, 1, "{errors}");
        assert!(errors.contains("line 1: ") && errors.contains(said), "{command}: {errors}");
    }
}

/// Types a line, and reads until one that answers it.
fn answered(
    (input, output): (&mut ChildStdin, &mut BufReader<ChildStdout>),
    line: &str,
    is: impl Fn(&str) -> bool,
) -> String {
    writeln!(input, "{line}").expect("it reads");
    loop {
        let mut said = String::new();
        assert!(output.read_line(&mut said).expect("it writes") > 0, "it has ended");
        if is(&said) {
            return said;
        }
    }
}

#[test]
fn a_shell_goes_on_with_another_node_and_says_so() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let url = url(&nodes, &format!("token={token}"));
    let mut command = lab.command(1, &["shell", "--url", &url, "--mode", "csv"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = command.spawn().expect("it runs");
    let mut input = shell.stdin.take().expect("a pipe");
    let mut output = BufReader::new(shell.stdout.take().expect("a pipe"));
    let used = answered((&mut input, &mut output), ".servers", |line| line.contains("in use"));
    let used = used.split_whitespace().next().expect("a name").to_owned();
    let count = |line: &str| line.trim().parse::<u32>().is_ok();
    for id in 1..=20 {
        if id == 10 {
            nodes.iter_mut().find(|node| node.name == used).expect("it is one of them").kill();
        }
        writeln!(input, "INSERT INTO t VALUES ({id}, 0, 0);").expect("it reads");
        let said = answered((&mut input, &mut output), "SELECT count(*) FROM t;", count);
        assert_eq!(said.trim(), id.to_string());
    }
    drop(input);
    let ended = shell.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{errors}");
    assert!(errors.contains(&format!("{used} is gone; using n")), "{errors}");
}

fn typed(lab: &Lab, node: &Node, state: &str) -> Pty {
    let mut command = lab.command(1, &["shell", "--data", &data(node)]);
    command.env("XDG_STATE_HOME", state);
    Pty::start(command, (100, 30))
}

#[test]
fn a_person_types_statements_over_several_lines_with_completion_and_history() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 1);
    let state = lab.path("state").display().to_string();
    let mut shell = typed(&lab, &nodes[0], &state);
    let at = shell.until(0, "demo@n1> ");
    // Unfinished: the answer comes with the semicolon, on another line.
    shell.send("SELECT 6 *\r");
    shell.send("7 AS answer;\r");
    let at = shell.until(at, "42");
    let at = shell.until(at, "demo@n1> ");
    shell.send("INSERT INTO t (wri\t) VALUES (77);\r");
    let at = shell.until(at, "1 row affected");
    shell.send("SELECT nonsense; SELECT 'not run';\r");
    let at = shell.until(at, "error: no such column: nonsense");
    let at = shell.until(at, "demo@n1> ");
    assert!(!shell.shown()[at..].contains("not run'\r\n"), "{}", shell.shown());
    // The last but two, from the history.
    shell.send("\u{1b}[A\u{1b}[A\u{1b}[A\r");
    let at = shell.until(at, "42");
    shell.send("\u{4}");
    assert!(shell.end().success(), "{}", &shell.shown()[at..]);
    let history = std::path::Path::new(&state).join("quorate/history");
    let mode = std::fs::metadata(&history).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = std::fs::read_to_string(&history).expect("text");
    assert!(kept.contains("INSERT INTO t (writer) VALUES (77);"), "Tab has completed: {kept}");

    let mut again = typed(&lab, &nodes[0], &state);
    let at = again.until(0, "demo@n1> ");
    again.send("\u{1b}[A\r");
    again.until(at, "42");
    again.send(".quit\r");
    assert!(again.end().success());
}
