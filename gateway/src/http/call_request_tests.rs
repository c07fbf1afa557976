use super::*;

fn json(body: &str) -> Result<CallRequest, (String, String)> {
    read(body, Form::Json)
}

fn read(body: &str, form: Form) -> Result<CallRequest, (String, String)> {
    parse(body.as_bytes(), form)
        .map_err(|problem| (problem.code().to_owned(), problem.detail().to_owned()))
}

#[test]
fn a_whole_call_is_read_with_its_defaults() {
    let call = json(r#"{"source": "def f(x): return x", "entry": "f", "inputs": [1, {"a" : 2}]}"#)
        .expect("good");
    assert_eq!(call.spec.kind, CallKind::Source);
    assert_eq!(call.spec.encoding, Encoding::Json);
    assert_eq!((call.spec.cpu, call.spec.ram_bytes), (1.0, 4 << 30));
    assert_eq!(call.spec.entry.as_deref(), Some("f"));
    assert_eq!(call.inputs, ["1", "{\"a\" : 2}"]);
    assert_eq!(call.options, CallOptions::default());
    assert!(!call.more_inputs && call.spec.image.is_empty() && call.spec.timeout_ms.is_none());
}

#[test]
fn every_field_is_taken_over() {
    let call = json(
        r#"{"command": ["wc", "-c"], "inputs": ["a", ["b"], {"args": ["c"], "stdin": "d"}, {}],
            "more_inputs": true, "image": "busybox:1", "cpu": 0.5, "ram": 0.25, "env": {"A": "b"},
            "timeout": 1.5, "retries": 2, "max_parallelism": 3, "on_error": "stop",
            "background": true, "name": "n", "kind": "command", "python": null}"#,
    )
    .expect("good");
    assert_eq!(call.spec.command, ["wc", "-c"]);
    assert_eq!(call.spec.image, "busybox:1");
    assert_eq!((call.spec.cpu, call.spec.ram_bytes), (0.5, 1 << 28));
    assert_eq!(call.spec.env["A"], "b");
    assert_eq!(call.spec.timeout_ms, Some(1500));
    assert_eq!(call.inputs.len(), 4);
    assert!(call.more_inputs);
    let expected = CallOptions {
        max_parallelism: Some(3),
        retries: 2,
        on_error: OnError::Stop,
        background: true,
        name: Some("n".into()),
        share_limit: None,
    };
    assert_eq!(call.options, expected);
}

#[test]
fn a_command_without_inputs_runs_once_unless_it_is_told_not_to() {
    let inputs = |body| json(body).expect("good").inputs;
    assert_eq!(inputs(r#"{"command": ["hostname"]}"#), ["[]"]);
    assert!(inputs(r#"{"command": ["hostname"], "inputs": []}"#).is_empty());
    assert!(inputs(r#"{"command": ["hostname"], "more_inputs": true}"#).is_empty());
    assert!(inputs(r#"{"source": "def f(x): 0", "entry": "f"}"#).is_empty());
}

#[test]
fn frames_carry_function_and_inputs_apart_from_the_object() {
    let spec = read(r#"{"python": "3.11"}"#, Form::Frames).expect("good").spec;
    assert_eq!((spec.kind, spec.encoding), (CallKind::Pickle, Encoding::Pickle));
    let spec = read(r#"{"entry": "f"}"#, Form::Frames).expect("good").spec;
    assert_eq!((spec.kind, spec.encoding), (CallKind::Source, Encoding::Json));
    for field in ["source", "inputs"] {
        let (code, detail) =
            read(&format!(r#"{{"entry": "f", "{field}": []}}"#), Form::Frames).expect_err(field);
        assert_eq!(code, "bad_field");
        assert!(detail.contains(field), "{detail}");
    }
}

#[test]
fn mistakes_are_named_with_their_field() {
    // (body, code, what the detail must say)
    #[rustfmt::skip]
    let table: &[(&str, &str, &str)] = &[
        ("", "bad_json", "EOF"),
        ("{", "bad_json", "EOF"),
        ("[]", "bad_json", "an object"),
        ("null", "bad_json", "an object"),
        ("\u{feff}{}", "bad_json", "expected value"),
        (r#"{"command": ["a"]} x"#, "bad_json", "trailing"),
        (r#"{"command": ["a"], "cpu": NaN}"#, "bad_json", "column"),
        (r#"{"command": ["a"], "cpu": 01}"#, "bad_json", "column"),
        (r#"{"command": ["a"],}"#, "bad_json", "trailing comma"),
        (r#"{'command': ["a"]}"#, "bad_json", "column"),
        (r#"{"command": ["a"], "cpus": 1}"#, "unknown_field", "`cpus`"),
        (r#"{"command": ["a"], "Cpu": 1}"#, "unknown_field", "`Cpu`"),
        (r#"{"command": ["a"], "command": ["b"]}"#, "bad_field", "`command` is given twice"),
        ("{}", "bad_field", "`command` is missing"),
        (r#"{"inputs": [1]}"#, "bad_field", "`command` is missing"),
        (r#"{"kind": "pickle"}"#, "bad_field", "`kind`"),
        (r#"{"kind": "shell"}"#, "bad_field", "`kind` is \"shell\""),
        (r#"{"kind": 1}"#, "bad_field", "`kind` is 1, a number, not a string"),
        (r#"{"kind": "source", "entry": "f"}"#, "bad_field", "`source` is missing"),
        (r#"{"source": "x"}"#, "bad_field", "`entry` is missing"),
        (r#"{"entry": "f"}"#, "bad_field", "`source` is missing"),
        (r#"{"source": "x", "entry": ""}"#, "bad_field", "`entry`"),
        (r#"{"source": "x", "entry": "a.b"}"#, "bad_field", "`entry`"),
        (r#"{"source": "x", "entry": "1a"}"#, "bad_field", "`entry`"),
        (r#"{"source": 7, "entry": "f"}"#, "bad_field", "`source` is 7, a number"),
        (r#"{"source": "x", "entry": "f", "command": ["a"]}"#, "bad_field", "`source` does not go"),
        (r#"{"command": []}"#, "bad_field", "`command` names no program"),
        (r#"{"command": [""]}"#, "bad_field", "`command` names no program"),
        (r#"{"command": "ls"}"#, "bad_field", "`command` is \"ls\", a string, not an array of strings"),
        (r#"{"command": ["a", 1]}"#, "bad_field", "`command`"),
        (r#"{"command": ["a\u0000"]}"#, "bad_field", "`command[0]` holds a NUL"),
        (r#"{"command": ["a"], "packages": {"requirements": ["numpy"]}}"#, "bad_field", "`packages` does not go"),
        (r#"{"source": "x", "entry": "f", "packages": ["numpy"]}"#, "bad_field", "`packages` is [\"numpy\"], an array, not an object"),
        (r#"{"source": "x", "entry": "f", "packages": {"requirements": ["-e ."]}}"#, "bad_field", "`packages` has \"-e .\""),
        (r#"{"command": ["a"], "cpu": 0}"#, "bad_field", "`cpu` is 0"),
        (r#"{"command": ["a"], "cpu": -1}"#, "bad_field", "`cpu` is -1"),
        (r#"{"command": ["a"], "cpu": "1"}"#, "bad_field", "`cpu` is \"1\", a string, not a number"),
        (r#"{"command": ["a"], "cpu": 1e999}"#, "bad_field", "`cpu`"),
        (r#"{"command": ["a"], "cpu": true}"#, "bad_field", "`cpu` is true, a boolean"),
        (r#"{"command": ["a"], "ram": 0.001}"#, "bad_field", "`ram` is 0.001"),
        (r#"{"command": ["a"], "ram": []}"#, "bad_field", "`ram` is [], an array"),
        (r#"{"command": ["a"], "timeout": 0}"#, "bad_field", "`timeout` is 0"),
        (r#"{"command": ["a"], "retries": -1}"#, "bad_field", "`retries` is -1"),
        (r#"{"command": ["a"], "retries": 1.5}"#, "bad_field", "`retries` is 1.5"),
        (r#"{"command": ["a"], "retries": 1001}"#, "bad_field", "`retries` is 1001"),
        (r#"{"command": ["a"], "max_parallelism": 0}"#, "bad_field", "`max_parallelism` is 0"),
        (r#"{"command": ["a"], "max_parallelism": 4294967296}"#, "bad_field", "`max_parallelism`"),
        (r#"{"command": ["a"], "on_error": "raise"}"#, "bad_field", "`on_error` is \"raise\""),
        (r#"{"command": ["a"], "background": "yes"}"#, "bad_field", "`background` is \"yes\", a string, not true or false"),
        (r#"{"command": ["a"], "background": 1}"#, "bad_field", "`background`"),
        (r#"{"command": ["a"], "env": ["A=b"]}"#, "bad_field", "`env` is not an object of strings."),
        (r#"{"command": ["a"], "env": {"A": 1}}"#, "bad_field", "`env`"),
        (r#"{"command": ["a"], "env": {"": "x"}}"#, "bad_field", "`env` has the name \"\""),
        (r#"{"command": ["a"], "env": {"A=B": "x"}}"#, "bad_field", "`env` has the name \"A=B\""),
        (r#"{"command": ["a"], "env": {"A": "\u0000"}}"#, "bad_field", "`env.A` holds a NUL"),
        (r#"{"command": ["a"], "image": ""}"#, "bad_field", "`image`"),
        (r#"{"command": ["a"], "image": "a b"}"#, "bad_field", "`image`"),
        (r#"{"command": ["a"], "python": 3.11}"#, "bad_field", "`python` is 3.11, a number, not a string"),
        (r#"{"command": ["a"], "python": "3"}"#, "bad_field", "`python` is \"3\""),
        (r#"{"command": ["a"], "python": "3.11.2"}"#, "bad_field", "`python`"),
        (r#"{"command": ["a"], "inputs": {}}"#, "bad_field", "`inputs` is {}, an object, not an array"),
        (r#"{"command": ["a"], "secrets": "A"}"#, "bad_field", "`secrets` is \"A\", a string"),
        (r#"{"command": ["a"], "secrets": ["A B"]}"#, "bad_field", "`secrets` has \"A B\", which is not"),
        (r#"{"command": ["a"], "secrets": ["LD_PRELOAD"]}"#, "bad_field", "the worker itself lives by"),
        (r#"{"command": ["a"], "inputs": "x"}"#, "bad_field", "`inputs` is \"x\", a string"),
        (r#"{"command": ["a"], "inputs": ["x", 7]}"#, "bad_field", "`inputs[1]` is 7, a number"),
        (r#"{"command": ["a"], "inputs": [["x", 7]]}"#, "bad_field", "`inputs[0]`"),
        (r#"{"command": ["a"], "inputs": [{"arg": []}]}"#, "bad_field", "`inputs[0]`"),
        (r#"{"command": ["a"], "inputs": [null]}"#, "bad_field", "`inputs[0]` is null"),
        (r#"{"command": ["a"], "more_inputs": 0}"#, "bad_field", "`more_inputs`"),
    ];
    for (body, code, says) in table {
        let (found, detail) = json(body).expect_err(body);
        assert_eq!(found, *code, "{body}: {detail}");
        assert!(detail.contains(says), "{body}: {detail}");
    }
}

#[test]
fn every_problem_says_what_to_do() {
    for body in ["{", "{\"x\": 1}", "{}", "{\"command\": 1}"] {
        let problem = parse(body.as_bytes(), Form::Json).expect_err(body);
        assert!(!problem.action().is_empty(), "{body}");
    }
}

#[test]
fn an_unknown_field_names_the_known_ones() {
    let problem = parse(b"{\"cores\": 1}", Form::Json).expect_err("unknown");
    assert!(KNOWN.iter().all(|name| problem.action().contains(name)));
}

proptest::proptest! {
    #[test]
    fn no_body_is_too_strange_to_be_answered(body: Vec<u8>) {
        let _ = parse(&body, Form::Json);
        let _ = parse(&body, Form::Frames);
    }
}
