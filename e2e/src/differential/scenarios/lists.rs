//! Lists: in every form, in pages, by selectors, at revisions, with options that do not fit together.

use anyhow::Result;

use super::{PARTIAL_LIST, Sample, TABLE};
use crate::differential::kinds::Kind;
use crate::differential::scenario::Scenario;
use crate::http::Request;

/// Queries whose answers hold no object but the scenario's own, or only a refusal.
const QUERIES: [&str; 24] = [
    "labelSelector=list%3Dyes",
    "labelSelector=list%21%3Dyes,list",
    "labelSelector=list+in+(yes,no)",
    "labelSelector=list,!other",
    "labelSelector=list%3D%3D%3Dyes",
    "labelSelector=list+in+()",
    "labelSelector=list+notin+yes",
    "labelSelector=%21",
    "labelSelector=bad+key!%3Da",
    "labelSelector=list+%3E+1",
    "labelSelector=list%3Dyes&fieldSelector=metadata.name%3Dno-such",
    "fieldSelector=metadata.name%3Dno-such",
    "fieldSelector=metadata.nothing%3Da",
    "fieldSelector=a",
    "fieldSelector=status.phase%3DRunning",
    "labelSelector=list%3Dyes&resourceVersion=0",
    "labelSelector=list%3Dyes&resourceVersion=x",
    "labelSelector=list%3Dyes&resourceVersion=-1",
    "labelSelector=list%3Dyes&resourceVersionMatch=Exact",
    "labelSelector=list%3Dyes&resourceVersion=0&resourceVersionMatch=Exact",
    "labelSelector=list%3Dyes&resourceVersion=1&resourceVersionMatch=Sometimes",
    "labelSelector=list%3Dyes&limit=x",
    "labelSelector=list%3Dyes&continue=nonsense",
    "labelSelector=list%3Dyes&sendInitialEvents=true",
];

pub(super) fn of(kind: &Kind) -> Result<Scenario> {
    let mut scenario = Scenario::new("lists", kind.subject());
    let samples = (14..17).map(|number| Sample::of(kind, number)).collect::<Result<Vec<_>>>()?;
    for sample in &samples {
        let object = sample.with("/metadata/labels", serde_json::json!({"list": "yes"}))?;
        scenario.step("create", Request::new("POST", &sample.collection).body(super::JSON, object.to_string()));
    }
    let collection = kind.collection();
    for query in QUERIES {
        scenario.step(format!("list ?{query}"), Request::get(format!("{collection}?{query}")));
    }
    let own = format!("{collection}?labelSelector=list%3Dyes");
    scenario.step("table", Request::get(&own).header("accept", TABLE));
    scenario.step("table with objects", Request::get(format!("{own}&includeObject=Object")).header("accept", TABLE));
    scenario.step("table without objects", Request::get(format!("{own}&includeObject=None")).header("accept", TABLE));
    scenario.step("partial", Request::get(&own).header("accept", PARTIAL_LIST));
    scenario.step("page 1", Request::get(format!("{own}&limit=2")));
    scenario.step("page 2", Request::get(format!("{own}&limit=2&continue=@{{continue}}")));
    let everywhere = format!("{}?labelSelector=list%3Dyes", kind.everywhere());
    scenario.step("everywhere", Request::get(&everywhere));
    scenario.step("by name", Request::get(format!("{collection}?fieldSelector=metadata.name%3D{}", samples[0].name)));
    scenario.step("delete collection", Request::new("DELETE", &own));
    scenario.step("after", Request::get(&own));
    Ok(scenario)
}
