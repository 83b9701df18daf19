//! Amendments: what an endpoint of the server changes of an object beyond what its users may. Neither admission nor the
//! rules of updates look at it, and nobody comes to own the fields; the write is as conditional as any other.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};

use super::engine::{Registry, not_found};
use super::get::unreadable;
use super::storage::WriteError;
use super::update::{Recorded, Rewrite, mismatch};
use super::{Context, Shown, Target, WriteOptions, key};

/// Writers that may be faster before the client is told to try again.
const CONFLICTS_MAX: usize = 100;

/// Which object is meant, besides its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<Str>,
    pub revision: Option<Str>,
}

impl Registry {
    /// Writes what `change` makes of the stored object; runs it again where somebody else was faster.
    pub async fn amend(
        &self,
        context: &Context,
        target: &Target,
        preconditions: &Preconditions,
        dry_run: bool,
        change: impl Fn(&mut Value) -> Result<(), Status> + Send + Sync,
    ) -> Result<Shown, Status> {
        let kind = &target.kind;
        if !key::is_segment(&target.name) {
            return Err(not_found(kind, &target.name));
        }
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        let rewrite = Rewrite { registry: self, context, target, options, recorded: Recorded::Already, scale: None };
        let home = self.home(kind)?;
        let mut entry = self.0.storage.entry(&key::absolute(&home, &target.namespace, &target.name)).await?;
        for _ in 0..CONFLICTS_MAX {
            let Some(current) = entry else { return Err(not_found(kind, &target.name)) };
            let stored = self.object_of(&home, &current)?;
            let old = Shown { kind: kind.clone(), object: stored.clone() };
            let old = old.to_value().map_err(|error| unreadable(&current.key, &error))?;
            preconditions.check(target, &old)?;
            let mut new = old.clone();
            change(&mut new)?;
            if new == old {
                return Ok(Shown { kind: kind.clone(), object: stored });
            }
            match rewrite.commit(&home, &current, &new).await {
                Ok(shown) => return Ok(shown),
                Err(WriteError::Refused(status)) => return Err(status),
                Err(WriteError::Conflict(now)) => entry = now,
            }
        }
        Err(Status::modified(&kind.gvk.group, &kind.plural, &target.name))
    }
}

impl Preconditions {
    fn check(&self, target: &Target, stored: &Value) -> Result<(), Status> {
        let meta = Meta::of(stored);
        let checks = [("UID", &self.uid, meta.uid()), ("ResourceVersion", &self.revision, meta.resource_version())];
        for (what, asked, stored) in checks {
            if let Some(asked) = asked.as_ref().filter(|asked| *asked != stored) {
                return Err(mismatch(target, what, asked, stored));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::testing::{Bench, body, context, kinds, target};

    #[tokio::test]
    async fn an_amendment_is_conditional_and_owns_nothing() {
        let bench = Bench::new([kinds::widget()]);
        let target = target(&bench.kind("widgets"), "a");
        let new = value!({"metadata": {"name": "a"}, "spec": {"replicas": 0}});
        let made = bench.registry.create(&context(), &target, body(new), WriteOptions::default()).await.unwrap();
        let made = made.object.to_value().unwrap();
        let set = |object: &mut Value| {
            object.object_entry("spec").insert("replicas", 7);
            Ok(())
        };
        let other = Preconditions { uid: Some("other".into()), revision: None };
        let refused = bench.registry.amend(&context(), &target, &other, false, set).await.err().unwrap();
        assert!(refused.message.contains("UID in precondition: other, UID in object meta: "), "{refused}");
        let same = Preconditions { uid: Some(Meta::of(&made).uid().into()), revision: None };
        let amended = bench.registry.amend(&context(), &target, &same, false, set).await.unwrap().to_value().unwrap();
        assert_eq!(amended.i64_at(&["spec", "replicas"]), Some(7));
        assert_eq!(Meta::of(&amended).managed_fields(), Meta::of(&made).managed_fields());
        assert_eq!(Meta::of(&amended).generation(), Meta::of(&made).generation());
        let again = bench.registry.amend(&context(), &target, &same, false, set).await.unwrap().to_value().unwrap();
        assert_eq!(again, amended);
    }
}
