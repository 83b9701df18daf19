//! What expressions cost. The figures are upstream's (its tests of runtime costs, with constants folded as Kubernetes does).

use corten_cel::{Activation, Budget, Environment, Type, Value};

#[track_caller]
fn check(table: &[(&str, u64)]) {
    let numbers = || Value::list(vec![Value::Int(1), Value::Int(2), Value::Int(3)]);
    let environment =
        Environment::new().with("input", Type::String).with("list", Type::list(Type::Int)).with("object", Type::Dyn);
    for (expression, cost) in table {
        let program = environment
            .compile(expression)
            .unwrap_or_else(|issues| panic!("{expression}: {}", corten_cel::describe(&issues)));
        let text = "a".repeat(500);
        let tree = corten_apimachinery::json::parse(br#"{"a": {"b": "c"}, "list": [1, 2]}"#).expect("it is JSON");
        let activation = Activation::new()
            .with("input", Value::string(text))
            .with("list", numbers())
            .with("object", corten_cel::Shape::any().read(&tree.value));
        let mut budget = Budget::new(10_000_000);
        program.evaluate(&activation, &mut budget).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(budget.last_cost(), *cost, "{expression}");
    }
}

#[test]
fn the_language_costs_what_it_costs_upstream() {
    check(&[
        ("'Hello'", 0),
        ("input", 1),
        ("object['a']", 2),
        ("list[0]", 2),
        ("object.a.b", 3),
        ("list[3 - 3]", 3),
        ("has(object.a.b)", 2),
        ("input.matches('[0-9]')", 103),
        ("'123'.matches('[0-9]')", 2),
        ("false || true", 0),
        ("1 < 2", 1),
        ("1 == 2", 1),
        ("1 + 1", 1),
        ("true ? 1 : 2", 0),
        ("size('123')", 1),
        ("'12345678901234567890' == '123456789012345678901234567890'", 2),
        ("input.contains(input)", 2502),
        ("input.size()", 2),
        ("(1 > 2 ? 5 : 3) > 1", 2),
        ("(1 > 2 || 2 > 1) == true", 3),
        // Upstream's 62, 86, 162 and 138, without the lists of constants.
        ("[1,2,3,4,5].filter(x, x % 2 == 0)", 42),
        ("[1,2,3,4,5].map(x, x)", 66),
        ("[1,2,3,4,5].map(x, x).map(x, x)", 132),
        ("[1,2,3,4,5].map(x, x).filter(x, x % 2 == 0)", 108),
        ("2 in [1, 2, 3]", 0),
        ("2 in list", 4),
        ("string(1)", 0),
    ]);
}

#[test]
fn the_libraries_cost_what_they_cost_upstream() {
    check(&[
        ("[1, 2, 3].isSorted()", 3),
        ("[1, 2, 3].sum()", 3),
        ("['aa', 'bb'].indexOf('bb')", 0),
        ("url('https://kubernetes.io/').getHost()", 4),
        ("'abc 123'.find('[0-9]+')", 2),
        ("sets.contains([1, 2], [1])", 3),
        ("[1, 2, 3].distinct()", 29),
        ("lists.range(10)", 21),
        ("quantity('12').isGreaterThan(quantity('1'))", 3),
        ("ip('127.0.0.1').family()", 2),
        ("cidr('127.0.0.0/8').containsIP('127.0.0.1')", 4),
        ("format.dns1123Label().validate('my-name').hasValue()", 10),
    ]);
}
