// Package gateway is a reverse proxy that stands between the provisioners of one
// test and the API server, keeps a list of the requests and makes them go wrong
// on demand. It is to the API server what package faults is to the driver.
//
// Callers speak plain HTTP to it, on a port of loopback. It passes on all they
// send, and adds the bearer token that clients send over TLS only, so that the API
// server knows them and their rights; towards the API server it trusts the
// cluster's authority.
//
// A test says what goes wrong with a rule:
//
//	g.On("patch", "persistentvolumeclaims").Nth(2).LoseReply()
//	g.On("create", "persistentvolumes").Next(1).Answer(apierrors.NewInternalError(err))
//	g.On(gateway.Any, gateway.Any).When(gateway.Request.Write).Drop()
//	gate := g.On("update", "persistentvolumeclaims/status").Named("src").Gate()
//	<-gate.Entered()
//	gate.Release()
//
// A rule is chosen by verb and resource (as RBAC writes them), by name, by
// predicate and by count (Nth, Next, else every request). Rules that only hold a
// request or its answer (Gate, GateReply) or tell the test of it (Before, After)
// all apply, one after the other. Of the rules that decide what becomes of it
// (Answer, Drop, LoseReply) the first that applies, in order of registration, is
// used. So a hook and an outcome go together:
//
//	second := g.On("patch", "persistentvolumeclaims").Nth(2)
//	second.Before(func(gateway.Request) { kill() })
//	second.Drop()
//
// A caller that goes away while its request is held before it was forwarded takes
// it along: the API server never sees it. After that nothing can be called back.
//
// Watches go on for long, so there is more to do to them: Cut ends those that are
// open, Expire has them begin anew with a list, and Stall holds their events back,
// in order, as a slow network would: the caller's cache is then out of date.
//
// Who is cut off may ask again without being told to: Go's HTTP client repeats
// reads (GET) on its own, though no writes.
package gateway
