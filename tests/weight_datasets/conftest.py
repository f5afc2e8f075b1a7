"""Random zoos and a cache folder, shared by the tests of datasets."""

import pytest

from tests.support.weight_zoos import random_zoo, twin_of


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    return random_zoo(tmp_path_factory.mktemp("random") / "zoo", members=40)


@pytest.fixture(scope="session")
def twin(zoo, tmp_path_factory):
    return twin_of(tmp_path_factory.mktemp("random") / "twin", zoo)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")
