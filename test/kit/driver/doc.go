// Package driver runs a real CSI driver (hack/demodriver) in the test process,
// behind a real unix socket, with a fault injector (test/kit/faults) in front.
//
//	server := driver.ForTest(t, demodriver.Config{Name: "a.example"})
//	server.Faults.On("CreateVolume").Next(1).Hang()
//	... point a provisioner at server.Socket ...
//	server.Restart()
//	server.Driver.Volumes()
package driver
