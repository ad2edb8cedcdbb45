// Package store keeps the demo driver's volumes and snapshots on disk and knows
// them by id and by name.
//
// One object is one directory, <kind>/<id>, with record.json and data (a
// directory or a file) in it. It is built in tmp/ and comes into being by one
// rename, and goes away by one rename back into tmp/. So whatever a crash leaves
// behind is either whole or in tmp/, and tmp/ is emptied by Open. Nothing in a
// request ever becomes part of a path: ids are made here and looked up.
//
// The package decides nothing about CSI and copies no data. It does not keep two
// callers from working on the same object; the driver's locks do.
package store
