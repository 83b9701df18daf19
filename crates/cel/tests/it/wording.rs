//! What is said of expressions that are not in order, word for word.

use corten_cel::{Environment, Type, describe};

#[track_caller]
fn check(expression: &str, expected: &str) {
    let environment = Environment::new()
        .with("object", Type::Dyn)
        .with("self", Type::object("selfType"))
        .with_object("selfType", [("name", Type::String), ("ports", Type::list(Type::Int))]);
    let issues = environment.compile(expression).expect_err("something is wrong");
    assert_eq!(describe(&issues), expected, "{expression}");
}

#[test]
fn complaints_are_worded_as_upstreams() {
    check("x == 1", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x == 1\n | ^");
    check("self.nam == 'a'", "ERROR: <input>:1:5: undefined field 'nam'\n | self.nam == 'a'\n | ....^");
    check(
        "self.name + 1",
        "ERROR: <input>:1:11: found no matching overload for '_+_' applied to '(string, int)'\n | self.name + 1\n | ..........^",
    );
    check(
        "self.ports.all(p, p.matches('a'))",
        "ERROR: <input>:1:28: found no matching overload for 'matches' applied to 'int.(string)'\n | self.ports.all(p, p.matches('a'))\n | ...........................^",
    );
    check(
        "self.name && true",
        "ERROR: <input>:1:5: expected type 'bool' but found 'string'\n | self.name && true\n | ....^",
    );
    check(
        "self.name.all(x, true)",
        "ERROR: <input>:1:5: expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.name.all(x, true)\n | ....^",
    );
    check("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^");
    check("namespace == 'a'", "ERROR: <input>:1:1: reserved identifier: namespace\n | namespace == 'a'\n | ^");
    check(
        "nothing(1)",
        "ERROR: <input>:1:8: undeclared reference to 'nothing' (in container '')\n | nothing(1)\n | .......^",
    );
    check("has(self)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^");
    check(
        "object.all(1, true)",
        "ERROR: <input>:1:12: argument must be a simple name\n | object.all(1, true)\n | ...........^",
    );
    check("'a'.matches('(')", "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^");
    check(
        "duration('1x') > duration('1s')",
        "ERROR: <input>:1:10: invalid duration argument\n | duration('1x') > duration('1s')\n | .........^",
    );
    check(
        "cel.bind(a, 1, a == 1)",
        "ERROR: <input>:1:1: undeclared reference to 'cel' (in container '')\n | cel.bind(a, 1, a == 1)\n | ^\nERROR: <input>:1:9: undeclared reference to 'bind' (in container '')\n | cel.bind(a, 1, a == 1)\n | ........^\nERROR: <input>:1:10: undeclared reference to 'a' (in container '')\n | cel.bind(a, 1, a == 1)\n | .........^\nERROR: <input>:1:16: undeclared reference to 'a' (in container '')\n | cel.bind(a, 1, a == 1)\n | ...............^",
    );
}

#[test]
fn what_is_no_expression_is_told_where() {
    check(
        "1 +",
        "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 +\n | ...^",
    );
    check("1 2", "ERROR: <input>:1:3: Syntax error: extraneous input '2' expecting <EOF>\n | 1 2\n | ..^");
}

#[test]
fn types_are_told() {
    let environment = Environment::new().with("object", Type::Dyn);
    for (expression, its) in [
        ("1 == 1", "bool"),
        ("[1].map(x, string(x))", "list(string)"),
        ("{'a': [1u]}", "map(string, list(uint))"),
        ("object.a", "dyn"),
        ("[].map(x, x)", "list(dyn)"),
        ("optional.of(1)", "optional_type(int)"),
        ("quantity('1').add(1)", "kubernetes.Quantity"),
        ("type(1)", "type(int)"),
        ("duration('1s') + timestamp('2025-01-01T00:00:00Z')", "timestamp"),
    ] {
        let program =
            environment.compile(expression).unwrap_or_else(|issues| panic!("{expression}: {}", describe(&issues)));
        assert_eq!(program.result().to_string(), its, "{expression}");
    }
}
