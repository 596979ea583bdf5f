"""The web application of the example: send a task, and return its state."""

from app import app, confirm_order, make_report
from celery.result import AsyncResult
from fastapi import FastAPI

api = FastAPI(title="shop")


@api.post("/orders/{number}", status_code=202)
def order(number: int) -> dict[str, str]:
    """Send the task that confirms an order."""
    return {"task": confirm_order.delay(number).id}


@api.post("/reports", status_code=202)
def report() -> dict[str, str]:
    """Send the task that makes a report."""
    return {"task": make_report.delay().id}


@api.get("/tasks/{task}")
def state(task: str) -> dict[str, object]:
    """Return the state of a task, and its result if it succeeded."""
    result = AsyncResult(task, app=app)
    return {
        "task": task,
        "state": result.state,
        "result": result.result if result.successful() else None,
    }
