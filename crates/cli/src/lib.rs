//! Verbs of the command line that need nothing but the Kubernetes API, and so work against any cluster: `run` makes ordinary
//! objects of one image, `ps` lists what it has made, `rm` takes it away; `status` shows the cluster, `why` what blocks an object.

mod app;
mod connect;
pub mod option;
pub mod ps;
pub mod rm;
pub mod run;
mod state;
pub mod status;
mod table;
mod url;
pub mod why;
