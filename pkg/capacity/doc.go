// Package capacity publishes how much room the driver has, in CSIStorageCapacity
// objects: one for each place and StorageClass, for the scheduler to choose a node by.
//
// What has to exist, and what an object has to say, are rules at the top of the package
// (pair.go, object.go); the controller asks the driver and keeps the objects like that.
// Work is queued by value, so that what is to be done twice is done once.
package capacity
