package audit

import "slices"

// sync brings what is written to the disk. A checkpoint covers nothing else.
func (w *writer) sync() error {
	if err := w.seg.sync(); err != nil {
		return err
	}
	w.durable = len(w.entries)
	w.settledBefore()
	return nil
}

// sign has the blocks that are on the disk signed, by and by.
func (w *writer) sign(keep bool) {
	w.keep = w.keep || keep
	if w.signing || w.durable == 0 && !w.keep {
		return
	}
	w.notary.jobs <- w.statement()
	w.signing = true
}

func (w *writer) statement() statement {
	s := statement{w.entries[:w.durable:w.durable], w.keep}
	w.entries, w.durable, w.keep = slices.Clone(w.entries[w.durable:]), 0, false
	return s
}

// signed takes the answer of the notary. What has come to the disk meanwhile is
// signed at the next tick, and at once if that checkpoint is one to keep.
func (w *writer) signed(err error) {
	w.signing = false
	switch {
	case err != nil && w.failing:
		w.blame(err)
	case err != nil:
		w.fail(err)
	case w.keep:
		w.sign(false)
	case w.durable > 0:
		w.tickLater()
	}
}

// signNow waits until all that is on the disk is signed. It is for a failing
// or ending log; what the notary could not do before, it tries again.
func (w *writer) signNow(keep bool) error {
	w.keep = w.keep || keep
	if w.signing {
		<-w.notary.done
		w.signing = false
	}
	w.notary.jobs <- w.statement()
	return <-w.notary.done
}

// sealAndSign ends the block, so that a checkpoint covers what it has.
func (w *writer) sealAndSign() {
	w.keep = true
	if !w.seal() {
		return
	}
	if err := w.sync(); err != nil {
		w.fail(err)
		return
	}
	w.sign(true)
}

// dismiss ends the notary. It writes nothing more once the directory is given back.
func (w *writer) dismiss() {
	if w.signing {
		<-w.notary.done
	}
	close(w.notary.jobs)
}
