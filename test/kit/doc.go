// Package kit is what integration tests are written with: one real control plane
// for a package of tests, and for each test its own namespace, its own CSI driver
// with faults on demand, its own StorageClass and as many provisioner processes
// as it likes to start and kill.
//
//	func TestMain(m *testing.M) { kit.Main(m) }
//
//	func TestAClone(t *testing.T) {
//		t.Parallel()
//		env := kit.New(t)
//		env.StartProvisioner()
//		env.Create(env.Claim("src"), env.Claim("copy", kit.CloneOf("src")))
//		env.WaitBound("src", "copy")
//	}
//
// What goes wrong between provisioner and driver is said to env.Faults (package
// faults), what goes wrong between provisioner and API server to env.Gateway
// (package gateway).
//
// Every test ends with the books: no volume without PV, no PV without volume, no
// finalizer of ours where it should not be. The provisioner runs with the RBAC
// that is shipped, or what the test chose instead (As, WithoutRule, WithRules),
// and a denial in its log fails the test; so does a stop that is not clean.
//
// Nothing runs pods or attaches volumes; tests say that it happened, by Pod,
// CreatePod, EndPod and Attach. What of these is left at the end of a test is
// removed before the books are checked. Whatever belongs to the whole cluster and
// would be felt by other tests (DefaultClass, InstallReferenceGrants, feature
// gates) needs a cluster of the test's own: StartCluster and On.
//
// Methods that wait or read fail the test themselves and must be called from its
// goroutine.
package kit
