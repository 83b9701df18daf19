//! Expressions: compiled, told what is wrong with them, evaluated.

use corten_apimachinery::json;
use corten_cel::{Activation, Budget, Environment, Shape, Type, Value, describe};

const OBJECT: &[u8] =
    br#"{"name": "a", "list": [1, 2.5, "x", null, {"b": true}], "map": {"k": {"v": [[]]}}, "number": -7}"#;
const COST_MAX: u64 = 20_000;

/// Whatever is written is refused with a reason, fails with a reason, or gives a value of the type that the checker told; and what
/// an evaluation costs stays within the limit.
pub(crate) fn expression(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let environment = Environment::new()
        .with("object", Type::Dyn)
        .with("list", Type::list(Type::Int))
        .with("self", Type::object("selfType"))
        .with_object("selfType", [("name", Type::String), ("number", Type::Int)])
        .with_bindings();
    let program = match environment.compile(source) {
        Ok(program) => program,
        Err(issues) => {
            assert!(!describe(&issues).is_empty());
            return;
        }
    };
    let object = json::parse(OBJECT).expect("the object is JSON");
    let read = || Shape::any().read(&object.value);
    let numbers = Value::list((0..5).map(Value::Int).collect());
    let activation = Activation::new().with("object", read()).with("self", read()).with("list", numbers);
    let mut budget = Budget::new(COST_MAX).with_call_limit(COST_MAX);
    let Ok(value) = program.evaluate(&activation, &mut budget) else { return };
    assert!(budget.last_cost() <= COST_MAX);
    let told = program.result();
    let open = matches!(told, Type::Dyn | Type::Error | Type::Object(_)) || matches!(value, Value::Null);
    assert!(open || told.runtime_name() == value.type_name(), "{source}: {told} is {value:?}");
}
