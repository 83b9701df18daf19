//! The binary as its users meet it: started, asked, stopped, refused.

mod backup;
mod client;
mod clock;
mod controllers;
mod edge;
mod https;
mod images;
mod network;
mod notifier;
mod process;
mod refusals;
mod service;
mod up;
