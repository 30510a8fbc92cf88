"""A bucket of Cloud Storage on this machine: an emulator, made as strict as the service is.

What gcp-storage-emulator leaves out and programs rely on is added: what is read says which
generation it is, a write or deletion on a condition that no longer holds is refused, and a list
comes in pages, here of a few names; objects can be moved. Still, it knows nothing of accounts and
their rights, has no hierarchical namespaces, and never has a bad day.
"""

import contextlib
import json
import logging
from http import HTTPStatus
from pathlib import Path

from gcp_storage_emulator import server
from gcp_storage_emulator.handlers import objects

_PAGE = 4
_MOVE = r"^/storage/v1/b/(?P<bucket>[-.\w]+)/o/(?P<name>.+)/moveTo/o/(?P<new_name>.+)$"


class EmulatedBucket:
    """A bucket `gs://bucket`, whose objects are files in a folder, too.

    Attributes:
        folder: the files.
        environment: the variables by which a program finds it.
        refuses: who writes an object whose name has this in it is told that he may not.
        pages: how many pages of lists were not the last ones.
    """

    def __init__(self, folder: Path, service: server.Server):
        self._storage = service._storage
        self.folder = folder / ".cloudstorage" / "bucket"
        self.refuses: str | None = None
        self.pages = 0
        host = f"http://localhost:{service._api._httpd.server_address[1]}"
        self.environment = {
            "STORAGE_EMULATOR_HOST": host,  # for gcsfs and Google's own client
            "TENSORSTORE_GCS_HTTP_URL": host,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",  # for tensorstore
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks by gRPC, which nobody answers
        }

    def saved_steps(self, run: str) -> list[int]:
        """Returns the steps of a run's whole checkpoints, oldest first."""
        marks = (self.folder / run / "checkpoints").glob("*/commit_success.txt")
        return sorted(int(mark.parent.name) for mark in marks if mark.parent.name.isdigit())

    def delete(self, name: str) -> None:
        """Takes an object away."""
        self._storage.delete_file("bucket", name)

    def remove(self, request, response, storage):
        """Deletes an object, unless another generation than the named one is there."""
        there = _generation(storage, request.params["bucket_name"], request.params["object_id"])
        if request.query.get("ifGenerationMatch", [there]) != [there]:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        objects.delete(request, response, storage)

    def download(self, request, response, storage):
        """Reads an object, if it is another generation than the one that is known already."""
        there = _generation(storage, request.params["bucket_name"], request.params["object_id"])
        if request.query.get("ifGenerationNotMatch") == [there] != ["0"]:
            response.status = HTTPStatus.NOT_MODIFIED
            return
        objects.download(request, response, storage)
        response["x-goog-generation"] = there

    def get(self, request, response, storage):
        """Reads an object, or what is said of it."""
        of_content = request.query.get("alt") == ["media"]
        (self.download if of_content else objects.get)(request, response, storage)

    def insert(self, request, response, storage):
        """Writes an object, unless another generation than the named one is there."""
        bucket = request.params["bucket_name"]
        name = request.query.get("name", [None])[0]
        if name is None and isinstance(request.data, dict):
            name = request.data.get("meta", request.data).get("name")
        if self.refuses is not None and self.refuses in name:
            response.status = HTTPStatus.FORBIDDEN
            return
        wanted = request.query.get("ifGenerationMatch")
        there = _generation(storage, bucket, name)
        if wanted and wanted[0] != there:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        objects.insert(request, response, storage)

    def move(self, request, response, storage):
        """Gives an object another name."""
        bucket, name, new_name = (request.params[part] for part in ("bucket", "name", "new_name"))
        response.json(objects._copy(request.base_url, storage, bucket, name, bucket, new_name))
        storage.delete_file(bucket, name)

    def ls(self, request, response, storage):
        """Lists a page of objects."""
        objects.ls(request, response, storage)
        if response.status != HTTPStatus.OK:
            return
        listed = json.loads(response._content)
        after = request.query.get("pageToken", [""])[0]
        start = request.query.get("startOffset", [""])[0]
        end = request.query.get("endOffset", [None])[0]
        names = sorted(
            name
            for name in (*listed["prefixes"], *(item["name"] for item in listed["items"]))
            if name > after and name >= start and (end is None or name < end)
        )
        page = names[:_PAGE]
        answer = {
            "kind": listed["kind"],
            "prefixes": [name for name in listed["prefixes"] if name in page],
            "items": [item for item in listed["items"] if item["name"] in page],
        }
        if len(names) > _PAGE:
            self.pages += 1
            answer["nextPageToken"] = page[-1]
        response.json(answer)


def _generation(storage, bucket, name):
    return storage.objects.get(bucket, {}).get(name, {}).get("generation", "0")


@contextlib.contextmanager
def emulated_bucket(folder: Path):
    """Serves a bucket, empty at first, until the context is left."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # nothing is there yet
    service = server.create_server("localhost", 0, data_dir=str(folder), default_bucket="bucket")
    service._storage.buckets["bucket"]["softDeletePolicy"] = {"retentionDurationSeconds": "0"}
    service.start()
    while service._api._httpd is None:
        pass
    # Who is killed leaves half a request behind.
    service._api._httpd.handle_error = lambda *request: None
    bucket = EmulatedBucket(folder, service)
    names = ("download", "get", "insert", "ls")
    replaced = {getattr(objects, name): getattr(bucket, name) for name in names}
    replaced[objects.delete] = bucket.remove
    before = server.HANDLERS
    server.HANDLERS = (
        (_MOVE, {server.POST: bucket.move}),
        *(
            (path, {verb: replaced.get(handle, handle) for verb, handle in of_path.items()})
            for path, of_path in before
        ),
    )
    try:
        yield bucket
    finally:
        service.stop()
        server.HANDLERS = before
