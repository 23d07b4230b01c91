//! Hadoop natively in Rust: IPC version 9 with SIMPLE and TOKEN authentication, the credentials file, YARN's three
//! protocols, the site files, and HDFS.
//!
//! No JVM, no Hadoop installation and no native library is needed: a program that knows the address of a
//! ResourceManager can submit an application, and the process that YARN starts for it can be an ApplicationMaster.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`ipc`] | frames (pure) and a tokio client: time-outs, pings, reconnects, remote exceptions |
//! | [`sasl`] | DIGEST-MD5 as Hadoop speaks it, with its integrity and privacy layers (pure) |
//! | [`token`] | tokens and the credentials file, formats 0 and 1 |
//! | [`yarn`] | ids, and clients for ResourceManager, ApplicationMaster duties and NodeManagers |
//! | [`proto`] | the generated messages |
//! | [`conf`] | `core-site.xml`, `hdfs-site.xml`, `yarn-site.xml` |
//! | [`fs`] | HDFS |
//! | [`user`] | who we are to Hadoop |
//!
//! This crate knows nothing of jobs, decides nothing about containers, and reads the environment only in functions
//! whose names say so. Passwords of tokens and secrets never appear in `Debug` output.
//!
//! # Submitting
//!
//! ```no_run
//! use spindle_hadoop::ipc::ClientConfig;
//! use spindle_hadoop::yarn::{FailoverPolicy, ResourceManagerClient, ResourceManagers};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let rms = ResourceManagers::new([("rm1", "127.0.0.1:8032")])?;
//! let rm = ResourceManagerClient::new(rms, &spindle_hadoop::user::current()?, ClientConfig::default(), FailoverPolicy::default());
//! let new = rm.new_application().await?;
//! let metrics = rm.cluster_metrics().await?;
//! # let _ = (new.id, metrics.num_active_nms());
//! # Ok(())
//! # }
//! ```

pub mod conf;
pub mod fs;
pub mod ipc;
pub mod proto;
pub mod sasl;
pub mod token;
pub mod user;
pub mod yarn;
