//! Pure: what an input of a command means (PROTOCOL.md section 4.1).

use bytes::Bytes;
use muster_wire::message::Encoding;
use serde_json::Value;

/// What an input adds to the call's command.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Input {
    /// Arguments after those of the call.
    pub args: Vec<String>,
    /// What the command reads.
    pub stdin: Bytes,
}

impl Input {
    /// Reads an item; an error says for people what an item may be.
    pub fn read(encoding: Encoding, item: Bytes) -> Result<Input, String> {
        match encoding {
            Encoding::Raw => Ok(Input { args: Vec::new(), stdin: item }),
            Encoding::Json => {
                let value: Value = serde_json::from_slice(&item)
                    .map_err(|error| format!("the input is not JSON: {error}"))?;
                from_json(value).ok_or_else(|| {
                    "an input of a command is a string (its stdin), an array of strings (further \
                     arguments), or {\"args\": [...], \"stdin\": \"...\"}"
                        .into()
                })
            }
            Encoding::Pickle => Err("a command cannot read pickles".into()),
        }
    }
}

fn from_json(value: Value) -> Option<Input> {
    match value {
        Value::String(stdin) => Some(Input { args: Vec::new(), stdin: stdin.into() }),
        Value::Array(args) => Some(Input { args: strings(args)?, stdin: Bytes::new() }),
        Value::Object(fields) => {
            let mut input = Input::default();
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("args", Value::Array(args)) => input.args = strings(args)?,
                    ("stdin", Value::String(stdin)) => input.stdin = stdin.into(),
                    _ => return None,
                }
            }
            Some(input)
        }
        _ => None,
    }
}

fn strings(values: Vec<Value>) -> Option<Vec<String>> {
    let string = |value| match value {
        Value::String(string) => Some(string),
        _ => None,
    };
    values.into_iter().map(string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(item: &'static str) -> Result<Input, String> {
        Input::read(Encoding::Json, Bytes::from_static(item.as_bytes()))
    }

    fn input(args: &[&str], stdin: &'static str) -> Input {
        Input {
            args: args.iter().map(|&arg| arg.into()).collect(),
            stdin: Bytes::from_static(stdin.as_bytes()),
        }
    }

    #[test]
    fn a_string_is_stdin_an_array_is_arguments_and_an_object_is_both() {
        assert_eq!(json("\"a\\nb\""), Ok(input(&[], "a\nb")));
        assert_eq!(json("[\"-l\", \"x y\"]"), Ok(input(&["-l", "x y"], "")));
        assert_eq!(json("{\"stdin\": \"s\", \"args\": [\"a\"]}"), Ok(input(&["a"], "s")));
        assert_eq!(json("{}"), Ok(input(&[], "")));
    }

    #[test]
    fn anything_else_is_refused_and_says_what_is_expected() {
        for item in ["1", "null", "[1]", "{\"arg\": []}", "{\"args\": \"x\"}", "{\"stdin\": 3}"] {
            let why = json(item).expect_err(item);
            assert!(why.contains("array of strings"), "{item}: {why}");
        }
        assert!(json("nonsense").expect_err("no JSON").contains("not JSON"));
    }

    #[test]
    fn a_raw_item_is_stdin_byte_by_byte() {
        let item = Bytes::from_static(b"\xff\x00\"");
        let read = Input::read(Encoding::Raw, item.clone()).expect("anything is raw");
        assert_eq!(read, Input { args: Vec::new(), stdin: item });
    }
}
