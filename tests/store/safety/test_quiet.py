import subprocess
import sys
import threading
import warnings

from sciml_bounds.store.safety.quiet import no_warnings


def test_warnings_inside_are_not_shown_and_those_after_are(recwarn):
    with no_warnings():
        warnings.warn("inside", stacklevel=1)
        with no_warnings():
            warnings.warn("inside twice", stacklevel=1)
    warnings.warn("after", stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["after"]


def test_threads_leave_the_filters_as_they_were():
    """One that enters while another is inside, and leaves after it, would bring back filters that ignore all."""
    first_is_in, second_is_in, found = threading.Event(), threading.Event(), list(warnings.filters)

    def first():
        with no_warnings():
            first_is_in.set()
            second_is_in.wait(0.2)  # in vain, as the second waits for its turn

    def second():
        first_is_in.wait()
        with no_warnings():
            second_is_in.set()
            threads[0].join(0.2)

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == found


def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent():
    code = """if True:
        import os, threading
        from sciml_bounds.store.safety.quiet import no_warnings
        inside, done = threading.Event(), threading.Event()
        def stay():
            with no_warnings():
                inside.set()
                done.wait()
        threading.Thread(target=stay).start()
        inside.wait()
        child = os.fork()
        if child == 0:
            with no_warnings():
                os._exit(0)
        print(os.waitpid(child, 0)[1])
        done.set()
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
