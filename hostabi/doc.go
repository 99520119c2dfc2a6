// Package hostabi is the contract between durun's runtime and the functions that it offers to guests: what a host
// module is, how a host function suspends its caller, and how a host module's state goes into a snapshot.
//
// The guest's side of the contract, the import module "durun", is specified in ABI.md. Package
// [github.com/durun/durun/hostabi/wasi] is durable WASI preview 1 on the same terms.
//
// The package holds declarations only; it knows wazero's api package and nothing of the runtime, the snapshot format or
// the store.
package hostabi
