//! Expressions that want to take everything: they are refused or cut off.

use corten_cel::{Activation, Budget, Environment, Error, Type, Value};

/// Compiles and evaluates in a thread with half the stack of the server's threads.
fn run(expression: String) -> Result<String, String> {
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let work = move || {
        let environment = Environment::new().with("list", Type::list(Type::Int)).with_bindings();
        let program = environment.compile(&expression).map_err(|issues| issues[0].message.clone())?;
        let activation = Activation::new().with("list", Value::list((0..1_000).map(Value::Int).collect()));
        program
            .evaluate(&activation, &mut Budget::new(10_000_000).with_call_limit(100_000))
            .map(|value| value.type_name().to_owned())
            .map_err(|error| error.to_string())
    };
    thread.spawn(work).expect("a thread starts").join().expect("nothing panics")
}

#[test]
fn nesting_has_a_limit() {
    let refused = Err("expression recursion limit exceeded: 250".to_owned());
    let nested = Err("expression recursion limit exceeded: 100".to_owned());
    assert_eq!(run("(".repeat(5_000) + "1" + &")".repeat(5_000)), nested);
    assert_eq!(run("[".repeat(5_000) + &"]".repeat(5_000)), nested);
    assert_eq!(run("1".to_owned() + &" + 1".repeat(5_000)), refused);
    assert_eq!(run("a".to_owned() + &".b".repeat(5_000)), refused);
    assert_eq!(run("true ? 1 : ".repeat(1_000) + "1"), nested);
    assert_eq!(run("{1: ".repeat(5_000) + "1" + &"}".repeat(5_000)), nested);
    assert_eq!(run("[".repeat(95) + &"]".repeat(95)), Ok("list".to_owned()));
    assert_eq!(run("1".to_owned() + &" + 1".repeat(240)), Ok("int".to_owned()));
    assert_eq!(run("true".to_owned() + &" && true".repeat(5_000)), Ok("bool".to_owned()));
    assert_eq!(run("-".repeat(5_001) + "list.size()"), Ok("int".to_owned()));
    assert_eq!(
        run("x".repeat(200_000)),
        Err("expression code point size exceeds limit: size: 200000, limit 100000".to_owned())
    );
}

#[test]
fn what_doubles_is_refused() {
    let doubled =
        |of: &str, times: usize| (0..times).fold("optional.of(1)".to_owned(), |inside, _| format!("{inside}.{of}"));
    assert!(run(doubled("optMap(x, x + x)", 40)).expect_err("the copies are too many").contains("too large"));
    let maps = (0..30).fold("[1]".to_owned(), |inside, _| format!("{inside}.map(x, {{x: x}})"));
    assert_eq!(run(maps), Err("type is too large".to_owned()));
}

#[test]
fn what_is_expensive_is_cut_off() {
    let cost = Err(Error::Cost.to_string());
    assert_eq!(run("list.all(a, list.all(b, list.all(c, a + b + c >= 0)))".to_owned()), cost);
    assert_eq!(run("lists.range(9000000000000000000)".to_owned()), cost);
    assert_eq!(run("'aaaaaaaaaa'.replace('', list.map(x, 'aaaaaaaaaaaaaaaaaaaa').join()).replace('a', list.map(x, 'aaaaaaaaaaaaaaaaaaaa').join())".to_owned()), cost);
    assert_eq!(run("list.map(x, list).all(l, list.map(x, list) == list.map(x, list))".to_owned()), cost);
    let strings = (0..40).fold("'0123456789'".to_owned(), |inside, _| format!("cel.bind(s, {inside}, s + s)"));
    assert_eq!(run(strings), cost);
    let lists = (0..60).fold("list".to_owned(), |inside, _| format!("cel.bind(s, {inside}, s + s)"));
    assert_eq!(run(lists), Ok("list".to_owned()), "joining copies nothing");
    assert_eq!(
        run("list.all(x, 'a'.matches('a{1000}{1000}' + string(x)))".to_owned()).expect_err("it is too much"),
        "Illegal regex: Compiled regex exceeds size limit of 1048576 bytes."
    );
}
