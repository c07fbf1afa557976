//! `docs/security.md` and `docs/promises.md` name tests and files that are there.

use std::fs;
use std::path::PathBuf;

use crate::errors_doc::{files, root};

/// The folders in which what they name lies.
const FOLDERS: [&str; 6] = ["agent", "gateway", "images", "scripts", "sdk", "tests"];

/// What a page has between backticks, but for its blocks of code.
fn named(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("a page");
    let outside: String = text.split("```").step_by(2).collect();
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Names of tests are sentences.
fn is_test(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_other = name.starts_with('_') || name.starts_with("muster_");
    !is_other && name.bytes().all(plain) && name.matches('_').count() >= 3
}

fn is_file(name: &str) -> bool {
    let ends = [".rs", ".py", ".sh", ".txt"].iter().any(|end| name.ends_with(end));
    let first = name.split('/').next().unwrap_or_default();
    !name.contains([' ', '*', '{']) && (ends || (name.contains('/') && FOLDERS.contains(&first)))
}

#[test]
fn every_test_and_file_that_holds_a_claim_is_there() {
    let mut there: Vec<PathBuf> = Vec::new();
    FOLDERS.iter().for_each(|folder| files(&root().join(folder), &mut there));
    let sources: Vec<String> = there
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs" || end == "py"))
        .map(|path| fs::read_to_string(path).expect("text"))
        .collect();
    let (mut tests, mut missing) = (0, Vec::new());
    for page in ["docs/security.md", "docs/promises.md"] {
        for name in named(page) {
            let found = match name.as_str() {
                name if is_test(name) => {
                    tests += 1;
                    let (rust, python) = (format!("fn {name}("), format!("def {name}("));
                    sources.iter().any(|text| text.contains(&rust) || text.contains(&python))
                }
                name if is_file(name) => {
                    root().join(name).exists() || there.iter().any(|path| path.ends_with(name))
                }
                _ => true,
            };
            if !found {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
    assert!(tests > 60, "only {tests} tests were found in the pages");
}
