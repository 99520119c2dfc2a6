package snapshot

type InboxWatcher struct{}

func (w *InboxWatcher) Watch(id string, f func()) func() { return func() {} }
