//! Which objects a list, a watch or a collection's delete is about.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::selector::field::FieldSelector;
use corten_apimachinery::selector::label::LabelSelector;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Str;

use super::object::field_values;
use super::{ListOptions, Object, Shown, key};

/// Fields that every kind can be selected by.
const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";

/// A namespace and selectors, ready to be asked of each object.
pub(crate) struct Selection {
    /// What the keys of the selected objects start with.
    pub(crate) prefix: Str,
    labels: LabelSelector,
    fields: FieldSelector,
    kind: Arc<KindInfo>,
    /// The head's fields are those of the stored version; another version reads its own.
    fields_in_head: bool,
}

impl Selection {
    pub(crate) fn new(
        kind: &Arc<KindInfo>,
        home: &Arc<KindInfo>,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Self, Status> {
        let refuse = |error: &dyn std::fmt::Display| Status::bad_request(error.to_string());
        let labels = LabelSelector::parse(&options.label_selector).map_err(|error| refuse(&error))?;
        let fields = FieldSelector::parse(&options.field_selector).map_err(|error| refuse(&error))?;
        for term in fields.terms() {
            check_field(kind, &term.field)?;
        }
        let only = fields.exact(NAMESPACE).filter(|_| namespace.is_empty()).unwrap_or(namespace);
        Ok(Self {
            prefix: key::namespace_prefix(kind, only),
            labels,
            fields,
            kind: kind.clone(),
            fields_in_head: home.gvk == kind.gvk,
        })
    }

    /// Whether nothing but the namespace selects.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The smallest range of keys that has all selected objects, as what they start with.
    pub(crate) fn range(&self) -> Str {
        let whole = !self.kind.namespaced() || !self.prefix.is_empty();
        match self.fields.exact(NAME).filter(|_| whole) {
            Some(name) => compact_str::format_compact!("{}{name}", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// Whether the selectors take an object whose key starts with the prefix.
    pub(crate) fn matches(&self, object: &Arc<Object>) -> bool {
        if !self.labels.matches(&object.head.labels) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let own = match self.fields_in_head {
            true => None,
            false => Some(self.fields_of(object)),
        };
        let values = own.as_deref().unwrap_or(&object.head.fields);
        self.fields.matches(|field| match field {
            NAME => &object.head.name,
            NAMESPACE => &object.head.namespace,
            other => {
                let index = self.kind.selectable_fields.iter().position(|known| known.name == other);
                index.and_then(|index| values.get(index)).map(Str::as_str).unwrap_or_default()
            }
        })
    }

    /// The selectable fields of another version than the stored one. An object that cannot be converted is not
    /// selected by any of its fields; showing it would be refused.
    fn fields_of(&self, object: &Arc<Object>) -> Vec<Str> {
        let shown = Shown { kind: self.kind.clone(), object: object.clone() };
        match shown.to_value() {
            Ok(value) => field_values(&self.kind.selectable_fields, &value),
            Err(error) => {
                tracing::error!(name = %object.head.name, %error, "object cannot be shown in the asked version");
                Vec::new()
            }
        }
    }
}

fn check_field(kind: &KindInfo, field: &str) -> Result<(), Status> {
    if matches!(field, NAME | NAMESPACE) || kind.selectable_fields.iter().any(|known| known.name == field) {
        return Ok(());
    }
    if let Some(refuse) = kind.strategy.refuse_field {
        return Err(Status::bad_request(refuse(field)));
    }
    Err(Status::bad_request(match kind.selectable_fields.is_empty() {
        true => format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
        false => format!("field label not supported: {field}"),
    }))
}
