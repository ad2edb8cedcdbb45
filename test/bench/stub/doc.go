// Package stub is a CSI driver that does nothing but answer, after as long as a
// storage system would take, and count. It reports what the demo driver reports
// (hack/demodriver), keeps the books of its volumes in memory and costs next to
// nothing: what a benchmark measures is then the provisioner.
//
//	driver, err := stub.Start("a.example", 50*time.Millisecond)
//	... point a provisioner at driver.Socket ...
//	driver.Calls()["CreateVolume"]
//	driver.Close()
package stub
