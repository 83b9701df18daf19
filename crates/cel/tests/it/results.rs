//! What expressions give. A table shows an expression and its value as `string` shows it; `!` begins an error.

use corten_apimachinery::json;
use corten_cel::{Activation, Authorizer, Budget, Caller, Decision, Environment, Error, Question, Shape, Type, Value};

const OBJECT: &str = r#"{"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}, "spec": {"replicas": 3,
    "containers": [{"name": "a", "image": "x/a:1"}, {"name": "b", "image": "y/b:2"}], "ratio": 0.5}, "list": [3, 1, 2], "none": null}"#;

/// The expression inside a format, so that every value is shown the same way.
fn evaluate(expression: &str) -> String {
    let environment = Environment::new().with("object", Type::Dyn).with("authorizer", Type::authorizer());
    let tree = json::parse(OBJECT.as_bytes()).expect("the object is JSON");
    let shown = format!("'%s'.format([dyn({expression})])");
    let program = match environment.compile(&shown) {
        Ok(program) => program,
        Err(issues) => return format!("?{}", issues[0].message),
    };
    let activation = Activation::new()
        .with("object", Shape::any().read(&tree.value))
        .with("authorizer", Value::Authorizer(Caller::new(&OnlyReads)));
    match program.evaluate(&activation, &mut Budget::new(10_000_000)) {
        Ok(Value::String(text)) => text.to_string(),
        Ok(other) => panic!("format gives strings, not {other:?}"),
        Err(error) => format!("!{error}"),
    }
}

/// Lets everybody read, and the account `ops/root` do everything.
#[derive(Debug)]
struct OnlyReads;

impl Authorizer for OnlyReads {
    fn decide(&self, question: &Question<'_>) -> Decision {
        let allowed = match question {
            Question::Path { verb, path, .. } => *verb == "get" && *path == "/healthz",
            Question::Resource { check, verb } => {
                *verb == "get" || check.caller.service_account() == Some(("ops", "root"))
            }
        };
        Decision { allowed, reason: if allowed { "it reads" } else { "" }.to_owned(), error: None }
    }
}

#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (expression, expected) in table {
        assert_eq!(evaluate(expression), *expected, "{expression}");
    }
}

#[test]
fn objects_are_read_in_place() {
    check(&[
        ("object.metadata.name", "web"),
        ("object.metadata.namespace + '/' + object.metadata.name", "shop/web"),
        ("object.spec.replicas > 2 && object.spec.ratio < 1", "true"),
        ("has(object.metadata.annotations)", "false"),
        ("has(object.none)", "true"),
        ("object.spec.missing", "!no such key: missing"),
        ("object.list[7]", "!index out of bounds: 7"),
        ("object.spec.containers.map(c, c.image.split('/')[0])", "[x, y]"),
        ("object.spec.containers.exists(c, c.name == 'b')", "true"),
        ("object.metadata.labels.all(k, object.metadata.labels[k] == 'web')", "true"),
        ("object.metadata.labels['app']", "web"),
        ("'app' in object.metadata.labels", "true"),
        ("object.spec.missing || true", "true"),
        ("object.spec.missing || false", "!no such key: missing"),
        ("object.metadata.name.missing", "!no such overload"),
        ("object.list", "[3, 1, 2]"),
        ("object.list + [4]", "[3, 1, 2, 4]"),
        ("object.list == [3, 1, 2]", "true"),
        ("object.list[object.list.size() - 1]", "2"),
    ]);
}

#[test]
fn optional_values_chain() {
    check(&[
        ("object.?metadata.?annotations.?x.orValue('none')", "none"),
        ("object.?metadata.?labels.?app.orValue('none')", "web"),
        ("object.metadata.labels[?'app'].hasValue()", "true"),
        ("object.list[?9].or(optional.of(5)).value()", "5"),
        ("optional.none().value()", "!optional.none() dereference"),
        ("object.?metadata.name.optMap(n, n + '!').value()", "web!"),
        ("object.?missing.optFlatMap(n, n.?x).hasValue()", "false"),
        ("{?'a': object.?missing, 'b': dyn(1)}", "{b: 1}"),
        ("[?object.?missing, dyn(1)]", "[1]"),
        ("optional.ofNonZeroValue('').hasValue()", "false"),
        ("optional.unwrap([optional.of(1), optional.none()])", "[1]"),
        ("[1, 2].first().value() + [1, 2].last().value()", "3"),
    ]);
}

#[test]
fn lists_and_maps_are_made() {
    check(&[
        ("[3, 1, 2].sort()", "[1, 2, 3]"),
        ("object.spec.containers.sortBy(c, -size(c.name + c.image)).map(c, c.name)", "[a, b]"),
        ("['c', 'a'].isSorted()", "false"),
        ("[1, 2, 3].sum() + [1, 2, 3].max() + [1, 2, 3].min()", "10"),
        ("[1].filter(x, x > 1).max()", "!max called on empty list"),
        ("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1)", "2"),
        ("[1, 2, 1, 2].distinct()", "[1, 2]"),
        ("[[1], [2, 3]].flatten()", "[1, 2, 3]"),
        ("[1, 2, 3, 4].slice(1, 3)", "[2, 3]"),
        ("[1, 2].slice(1, 3)", "!cannot slice(1, 3), list is length 2"),
        ("lists.range(4).reverse()", "[3, 2, 1, 0]"),
        ("sets.contains([1, 2, 3], [3, 1])", "true"),
        ("sets.equivalent([1, 2, 2], [2, 1])", "true"),
        ("sets.intersects([1], [2])", "false"),
        ("[10, 20].transformList(i, v, i + v)", "[10, 21]"),
        ("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, k + string(v))", "{b: b2}"),
        ("{'a': 1}.transformMapEntry(k, v, {string(v): k})", "{1: a}"),
        ("[1, 1].transformMapEntry(i, v, {v: i})", "!insert failed: key 1 already exists"),
        ("{'a': 1, 'b': 2}.all(k, v, v > 0)", "true"),
        ("[1, 2].existsOne(i, v, v == 2)", "true"),
        ("{1: 'a', 1: 'b'}", "!failed with repeated key: 1"),
    ]);
}

#[test]
fn strings_have_their_library() {
    check(&[
        ("'tacocat'.charAt(3)", "o"),
        ("'tacocat'.indexOf('a', 2)", "5"),
        ("'tacocat'.lastIndexOf('t')", "6"),
        ("'hello hello'.replace('he', 'we', 1)", "wello hello"),
        ("'a,b,c'.split(',', 2)", "[a, b,c]"),
        ("'héllo'.substring(1, 3)", "él"),
        ("'abc'.substring(5)", "!index out of range: 5"),
        ("'  x '.trim() + 'aB'.upperAscii()", "xAB"),
        ("['a', 'b'].join('-')", "a-b"),
        ("strings.quote('a\"b\\n')", r#""a\"b\n""#),
        ("'abc 123 45'.find('[0-9]+')", "123"),
        ("'abc 123 45'.findAll('[0-9]+', 1)", "[123]"),
        ("'abc'.matches('^a.c$')", "true"),
        (
            "object.metadata.name.matches(object.metadata.name + '[')",
            "!Illegal regex: regex parse error:\n    web[\n       ^\nerror: unclosed character class",
        ),
        ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"),
        ("'%d of %.2f, %x'.format([dyn(1), 2.5, 'k'])", "1 of 2.50, 6b"),
        (
            "'%d'.format(['a'])",
            "!error during formatting: decimal clause can only be used on integers, was given string",
        ),
    ]);
}

#[test]
fn kubernetes_has_libraries() {
    check(&[
        ("quantity('1.5Gi').isGreaterThan(quantity('1G'))", "true"),
        ("quantity('50k').asInteger() + quantity('100').sub(20).asInteger()", "50080"),
        ("quantity('500m').isInteger()", "false"),
        ("isQuantity('5 apples')", "false"),
        ("sign(quantity('-3'))", "-1"),
        ("url('https://user@example.com:8443/a b?x=1&y=2&x=3').getHost()", "example.com:8443"),
        ("url('https://example.com:8443/a b?x=1&y=2&x=3').getQuery()", "{x: [1, 3], y: [2]}"),
        ("url('https://example.com/a b').getEscapedPath()", "/a%20b"),
        ("url('https://[::1]:80/').getHostname() + url('https://[::1]:80/').getPort()", "::180"),
        ("isURL('../relative')", "false"),
        ("ip('::ffff:1.2.3.4')", "!IPv4-mapped IPv6 address \"::ffff:1.2.3.4\" is not allowed"),
        ("ip('10.0.0.1').family()", "4"),
        ("ip.isCanonical('2001:DB8::1')", "false"),
        ("ip('fe80::1').isLinkLocalUnicast()", "true"),
        ("cidr('10.1.2.3/8').containsIP('10.255.0.1')", "true"),
        ("cidr('10.1.2.3/8').masked()", "10.0.0.0/8"),
        ("cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/7'))", "false"),
        ("isCIDR('10.0.0.0/33')", "false"),
        ("format.dns1123Label().validate('Web').hasValue()", "true"),
        ("format.named('uuid').value().validate('12345678-1234-1234-1234-123456789abc').hasValue()", "false"),
        ("format.named('nothing').hasValue()", "false"),
        ("semver('1.2.3').isLessThan(semver('1.10.0-rc.1'))", "true"),
        ("semver('1.0.0-rc.1').compareTo(semver('1.0.0'))", "-1"),
        ("semver('v01.2', true).minor()", "2"),
        ("isSemver('1.2')", "false"),
    ]);
}

#[test]
fn the_authorizer_answers() {
    let deployments = "authorizer.group('apps').resource('deployments').namespace('shop')";
    check(&[
        (&format!("{deployments}.check('get').allowed()"), "true"),
        (&format!("{deployments}.subresource('scale').name('web').check('update').allowed()"), "false"),
        (&format!("{deployments}.check('get').reason()"), "it reads"),
        ("authorizer.path('/healthz').check('get').allowed()", "true"),
        ("authorizer.path(' ').check('get').allowed()", "!path must not be empty"),
        ("authorizer.serviceAccount('ops', 'root').group('').resource('pods').check('delete').allowed()", "true"),
        (
            "authorizer.serviceAccount('Ops', 'root').group('').resource('pods').check('delete').allowed()",
            "!Invalid service account namespace",
        ),
        (&format!("{deployments}.check('get').errored()"), "false"),
    ]);
}

#[test]
fn variables_that_are_expressions_are_evaluated_once() {
    let environment =
        Environment::new().with("object", Type::Dyn).with("variables", Type::object("kubernetes.variables"));
    let first = environment.clone().compile("object.list.map(x, x * 2)").expect("it is in order");
    let known =
        environment.with_object("kubernetes.variables", [("doubled", first.result().clone()), ("wrong", Type::Dyn)]);
    let wrong = known.compile("object.nothing").expect("it is in order");
    let fields = vec![("doubled".to_owned(), first), ("wrong".to_owned(), wrong)];
    let tree = json::parse(OBJECT.as_bytes()).expect("the object is JSON");
    let activation =
        Activation::new().with("object", Shape::any().read(&tree.value)).with_composed("variables", &fields);
    let program = known.compile("variables.doubled.sum()").expect("it is in order");
    let mut budget = Budget::new(1_000);
    assert_eq!(program.evaluate(&activation, &mut budget).expect("it works").type_name(), "int");
    let first_cost = budget.last_cost();
    program.evaluate(&activation, &mut budget).expect("it works");
    assert!(budget.last_cost() < first_cost, "{} after {first_cost}", budget.last_cost());
    let failing = known.compile("variables.wrong == 1").expect("it is in order");
    let error = failing.evaluate(&activation, &mut budget).expect_err("there is no such key");
    assert_eq!(error.to_string(), "composited variable \"wrong\" fails to evaluate: no such key: nothing");
}

#[test]
fn a_budget_ends() {
    let program = Environment::new().compile("[1, 2, 3].all(x, x > 0)").expect("it is in order");
    let mut budget = Budget::new(20);
    program.evaluate(&Activation::new(), &mut budget).expect("it is enough for one");
    assert_eq!(program.evaluate(&Activation::new(), &mut budget).expect_err("it is too little for two"), Error::Budget);
    let mut small = Budget::new(1_000).with_call_limit(5);
    let error = program.evaluate(&Activation::new(), &mut small).expect_err("it costs more");
    assert_eq!(error.to_string(), "operation cancelled: actual cost limit exceeded");
}
