//! The verifier stands alone: nothing that copies, converts or follows is in it.

use std::fs;
use std::path::Path;

// Fault 34, amendment 11: what is wrong in the copier cannot be wrong in the verifier by the same code.
#[test]
fn the_verifier_uses_nothing_of_the_engine() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let siblings: Vec<String> = fs::read_dir(&src)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "verify" && name != "lib")
        .collect();
    assert!(siblings.contains(&"phase".to_owned()), "{siblings:?}");
    let mut files = 0;
    for entry in fs::read_dir(src.join("verify")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.is_file(), "{path:?}: look into folders as well");
        let text = fs::read_to_string(&path).unwrap();
        files += 1;
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}: {line}", path.display(), number + 1);
            assert!(!line.contains("crate::"), "{place}: the verifier names its own modules by super");
            for name in &siblings {
                assert!(!line.contains(&format!("super::super::{name}")), "{place}");
                assert!(!line.contains(&format!("changeover_cutover::{name}")), "{place}");
            }
            for contract in ["CutoverSource", "CutoverTarget"] {
                assert!(!line.contains(contract), "{place}: the verifier looks through the witnesses only");
            }
        }
    }
    assert!(files > 10, "{files}");
}
