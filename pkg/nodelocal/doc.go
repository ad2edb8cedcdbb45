// Package nodelocal is what a provisioner does besides that is one of many, one on each
// node (--node-deployment): it says whose a claim and a volume are, takes claims for which
// no node is chosen, and gives those back whose node is gone.
//
// Nothing is provisioned here: a claim that it takes comes back to package intake through
// the watch. Where nodes compete, the API server decides: of several writes to one version
// of a claim the first wins. What is promised stands in docs/node-deployment.md.
package nodelocal
