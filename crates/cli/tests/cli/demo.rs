//! The demo, whose text the README quotes.

use crate::common::Home;

#[test]
fn the_demo_needs_nothing_and_leaves_nothing() {
    let home = Home::new();
    let ran = home.ok(&["demo"]);
    assert_eq!(ran.out, include_str!("../data/demo.txt"));
    assert_eq!(ran.err, "");
    assert!(home.path().read_dir().unwrap().next().is_none());
}

#[test]
fn the_file_of_the_demo_can_be_kept_and_is_never_overwritten() {
    let home = Home::new();
    let ran = home.ok(&["demo", "--file", "var/demo.db"]);
    assert!(ran.out.contains("var/demo.db: an ordinary SQLite 3 database\nit is yours now\n"), "{}", ran.out);
    let bytes = std::fs::read(home.path().join("var/demo.db")).unwrap();
    let again = home.run(&["demo", "--file", "var/demo.db"]);
    assert_eq!(again.status, 2);
    assert!(again.err.contains("it is there already"), "{}", again.err);
    assert_eq!(std::fs::read(home.path().join("var/demo.db")).unwrap(), bytes);
}

// The README quotes what the demo prints; `demo.txt` is held to it by the test above.
#[test]
fn the_readme_shows_what_the_demo_prints() {
    let readme = include_str!("../../../../README.md");
    let printed = include_str!("../data/demo.txt").trim_end();
    assert!(readme.contains(&format!("```text\n{printed}\n```")), "the README quotes another demo");
    for command in ["`cargo run -- demo`", "`./test`"] {
        assert!(readme.contains(command), "{command} is not in the README");
    }
}
