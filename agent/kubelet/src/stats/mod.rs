//! CPU, memory and file system use of the node, pods and containers.
