// Package alarm calls functions when a time has passed, on time also while Go's collector marks a big heap.
//
// Go's own timers are looked at by those who schedule goroutines. While the collector marks, processors without work help it,
// and don't look at timers until it is done, or until they are made to after 10 ms and more: with a heap of 100 MB, timers are
// late by up to some 30 ms. What the network poller reports is looked at by them all the time. So on Linux the time comes
// from there: from a timerfd.
package alarm
